//! Rounds of a conversation with a local model: the same rounds, and rows that stay.
