//! The edges: observe what is there, apply what was decided. Nothing is judged here.
