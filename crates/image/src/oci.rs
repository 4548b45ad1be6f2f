//! Importing an image from an OCI layout (ruling 60): a directory or tar archive as `skopeo`, `buildah`, `podman save` and
//! `docker buildx` write it.
//!
//! Each layer becomes an image of type `docker` whose origin is the layer below, so that images with common layers share
//! them. A layer's uuid is made of its chain of layers, the image's own of its configuration: importing it again, here or on another
//! node, gives the same uuids. The image itself carries how its process is to be run (`tags["docker:config"]`).

mod blob;
mod config;
mod error;
mod layout;
mod manifest;
mod select;

use std::{fs::File, path::Path, time::Duration};

use serde_json::Value;
use triton_files::steps;
use triton_types::{ImageManifest, ImageUuid, JsonMap};

pub use error::OciError;
pub use layout::split_reference;

use crate::{CancelToken, Event, ImageError, Images, ImportOutcome, Imported, Progress, download, import::MAX_ANCESTRY};
use blob::Digests;
use layout::OciLayout;
use manifest::{Layer, Names};
use select::Selected;

/// How long a wait for another import of the same image lasts.
const PATIENCE: Duration = Duration::from_secs(3600);

impl Images {
    /// Makes sure that the image of an OCI layout is installed. `reference` is its tag; it may be left out where the layout has one image
    /// only, or one called `latest`.
    ///
    /// Layers that are there already are not read. After a failure or a kill those layers stay that were complete; they are used by
    /// the next call, or deleted by a vacuum.
    ///
    /// # Errors
    /// [`ImageError::Oci`] for what is wrong with the layout; nothing is installed then but layers that were right.
    pub fn import_oci(
        &self,
        path: &Path,
        reference: Option<&str>,
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<Imported, ImageError> {
        let layout = OciLayout::open(path)?;
        let selected = select::select(&layout, reference)?;
        if selected.layers.len() > MAX_ANCESTRY {
            return Err(OciError::TooManyLayers { found: selected.layers.len(), most: MAX_ANCESTRY }.into());
        }
        // Before anything is copied.
        for (layer, _) in &selected.layers {
            manifest::compression(&layer.media_type)?;
        }
        let names = Names::of(path, reference, &selected);
        let layers = manifest::chain(&selected);
        let top = layers.last().map(|layer| layer.uuid).ok_or(OciError::NoLayers)?;
        if let Some(image) = self.get(top)? {
            return Ok(Imported { outcome: ImportOutcome::AlreadyInstalled, image, images: Vec::new() });
        }
        if layers.len() > 1 {
            progress.event(&Event::Ancestry(layers.iter().rev().map(|layer| layer.uuid).collect()));
        }
        let images = self.import_layers(&layout, &selected, &names, &layers, cancel, progress)?;
        let image = self.get(top)?.ok_or_else(|| self.not_installed(top))?;
        let outcome = if images.is_empty() { ImportOutcome::WhileWaiting } else { ImportOutcome::Imported };
        Ok(Imported { outcome, image, images })
    }

    fn import_layers(
        &self,
        layout: &OciLayout,
        selected: &Selected,
        names: &Names,
        layers: &[Layer],
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<Vec<ImageUuid>, ImageError> {
        // From the image down to its base, as every import does.
        let mut locks = Vec::new();
        let mut first = 0;
        for (index, layer) in layers.iter().enumerate().rev() {
            let lock = self.lock(layer.uuid, "import", PATIENCE, progress, cancel)?;
            if self.is_installed(layer.uuid)? {
                first = index + 1;
                break;
            }
            locks.push(lock);
        }
        let mut images = Vec::new();
        for (index, layer) in layers.iter().enumerate().skip(first) {
            let origin = index.checked_sub(1).and_then(|below| layers.get(below)).map(|layer| layer.uuid);
            let result = self.import_layer(layout, selected, names, layer, origin, cancel, progress);
            download::remove(&self.layout, layer.uuid);
            result?;
            images.push(layer.uuid);
        }
        Ok(images)
    }

    #[allow(clippy::too_many_arguments, reason = "what one import of many layers has in common")]
    fn import_layer(
        &self,
        layout: &OciLayout,
        selected: &Selected,
        names: &Names,
        layer: &Layer,
        origin: Option<ImageUuid>,
        cancel: &CancelToken,
        progress: &dyn Progress,
    ) -> Result<(), ImageError> {
        // A copy of our own, so that what was checked is what is unpacked.
        let path = download::path(&self.layout, layer.uuid, 0);
        let mut copy = File::create(&path).map_err(|error| ImageError::System("make a copy of a layer", error))?;
        let digests: Digests = layout.copy(&layer.descriptor, &mut copy, cancel, progress)?;
        drop(copy);
        steps::reached("image.oci.copied");
        let compression = manifest::compression(&layer.descriptor.media_type)?;
        let raw: JsonMap = manifest::of_layer(selected, names, layer, origin, &digests, compression);
        let manifest = ImageManifest::from_value(&Value::Object(raw.clone())).map_err(ImageError::Manifest)?;
        self.install_files(&manifest, &raw, None, &[path], cancel, progress)
    }
}
