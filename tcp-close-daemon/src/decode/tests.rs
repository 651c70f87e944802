//! Round trips, every truncation, and everything a record may not say.
