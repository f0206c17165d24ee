"""The embedded demo: rendered dancers and synthesised songs whose joints, beats, cuts and song ids are known.

For the demo build, for tests' truth, and (`clip_truth`, no pictures) for training sets of any size. Not for real
footage.
"""

from tiktok_dm.synthetic.accuracy import pose_accuracy
from tiktok_dm.synthetic.demo import make_demo, write_demo_annotations
from tiktok_dm.synthetic.performance import clip_truth
from tiktok_dm.synthetic.plan import DemoParams

__all__ = ["DemoParams", "clip_truth", "make_demo", "pose_accuracy", "write_demo_annotations"]
