//! Turns many small segments into few large ones in the background.
