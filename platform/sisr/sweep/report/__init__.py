"""What a sweep shows: leaderboard, plots, page."""
