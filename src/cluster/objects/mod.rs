//! Facts <-> Kubernetes objects.

pub mod fuse_job;
pub mod keys;
pub mod kinds;
pub mod pages;
pub mod params;
pub mod read;
pub mod write;
