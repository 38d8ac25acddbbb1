//! Builder, launcher and the system buildpacks
