"""`ayaflow rewindow`: windows made again from the packets topic, in a shadow table, proved, then kept or swapped in."""
