"""What each command takes on its line. Nothing here imports more than argparse, so that --help is quick."""
