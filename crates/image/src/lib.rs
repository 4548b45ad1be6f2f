//! Images: manifests, import, the image database.
