//! Comes with the router's body.
