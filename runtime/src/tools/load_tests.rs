//! Much text.
