//! `machine_create_image` through the model's crates.

use tokio_util::sync::CancellationToken;
use triton_agent::chain;
use triton_image::{CancelToken, Compression, CreateOptions, ImportOptions, MAX_ORIGIN_DEPTH, Quiet, Remote, Source};
use triton_types::InstanceUuid;

use super::node::{Bridge, Node, image_error};
use crate::{ImageRequest, MachineError};

impl Node {
    /// Makes the image's files in a directory of their own, which is gone afterwards, and publishes them.
    pub(super) fn create_and_publish(
        &self,
        uuid: InstanceUuid,
        request: &ImageRequest,
        cancelled: &CancellationToken,
    ) -> Result<(), MachineError> {
        let invalid = |message: String| MachineError::new(message, Some("UsageError"));
        if request.prepare_script.is_some() {
            let message = "scripts that prepare an instance are not available on this compute node: stop it and leave the script out";
            return Err(MachineError::new(message, Some("PrepareImageDidNotRun")));
        }
        let compression: Compression = request.compression.parse().map_err(invalid)?;
        let target = Source::new(&request.imgapi_url).map_err(|error| image_error(&error))?;
        let scratch = tempfile::Builder::new().prefix(".provisioner-create-image-").tempdir_in(self.layout().at("/var/tmp"));
        let scratch = scratch.map_err(|error| MachineError::new(format!("could not make a directory for the image: {error}"), None))?;
        let options = CreateOptions {
            manifest: request.manifest.clone(),
            compression,
            incremental: request.incremental,
            max_origin_depth: request.max_origin_depth.unwrap_or(MAX_ORIGIN_DEPTH),
            output: scratch.path().join("image"),
        };
        let cancel = CancelToken::default();
        let _bridge = Bridge::new(cancelled, &cancel);
        let created = self
            .instances()?
            .create_image(uuid, self.images()?.as_ref(), &options, &cancel, &Quiet)
            .map_err(|error| MachineError::new(chain(&error).to_string(), Some(error.code())))?;
        let http = ImportOptions::default().http;
        let remote = Remote::open(std::slice::from_ref(&target), &http).map_err(|error| image_error(&error))?;
        remote.publish(&created.manifest, &created.file).map(drop).map_err(|error| image_error(&error))
    }
}
