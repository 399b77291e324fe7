"""The feature table: what a model may know at the close of each bar. See pairs/analytics/.

>>> "close_y" in FEATURES
True
"""

from pairs.analytics.features import FEATURES, LABELS, feature_table

__all__ = ["FEATURES", "LABELS", "feature_table"]
