"""Where one clip ends and another begins: a scan of the video, transitions, changes of music, cards."""
