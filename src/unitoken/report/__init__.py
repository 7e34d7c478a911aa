"""An evaluation as one HTML file: its tables, box plots by source and language, and clips to listen to (extra `[report]`)."""

from .page import save_page
from .players import Player, pick_clips, record_players
from .plots import box_plots

__all__ = ["Player", "box_plots", "pick_clips", "record_players", "save_page"]
