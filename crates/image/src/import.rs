//! Importing an image from the sources (instances.md section 8.5).

mod locking;
mod lookup;

use std::{collections::BTreeSet, time::Duration};

use triton_files::{Lock, steps};
use triton_headnode::{HttpClient, HttpOptions};
use triton_types::ImageUuid;

use crate::{CancelToken, DownloadOptions, Event, ImageError, Images, InstalledImage, Platform, Progress, Source, download};
use lookup::Found;
pub(crate) use lookup::Sources;

/// Longest chain of origins; IMGAPI's own limit.
pub(crate) const MAX_ANCESTRY: usize = 100;

/// How to import.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Sources to ask instead of the configured ones.
    pub sources: Vec<Source>,
    /// What this node is, for the image's requirements.
    pub platform: Platform,
    /// Times and name of the HTTP client.
    pub http: HttpOptions,
    /// Persistence of downloads.
    pub download: DownloadOptions,
    /// Longest wait for another process that imports the same image.
    pub patience: Duration,
    /// `x-request-id` of all requests.
    pub request_id: Option<String>,
    /// To stop it.
    pub cancel: CancelToken,
}

impl Default for ImportOptions {
    fn default() -> Self {
        Self {
            sources: Vec::new(),
            platform: Platform::default(),
            http: crate::remote::http_options(),
            download: DownloadOptions::default(),
            patience: Duration::from_secs(3600),
            request_id: None,
            cancel: CancelToken::default(),
        }
    }
}

/// How an import that succeeded went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportOutcome {
    /// It was installed before; no source was asked.
    AlreadyInstalled,
    /// Another process imported it meanwhile.
    WhileWaiting,
    /// It was imported now.
    Imported,
}

/// A successful import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// How it went.
    pub outcome: ImportOutcome,
    /// The image, as it is now.
    pub image: InstalledImage,
    /// All images that were imported now, in the order of installation: origins first.
    pub images: Vec<ImageUuid>,
}

impl Images {
    /// Makes sure that an image is installed: imports it and those of its origins that are missing.
    ///
    /// Any number of processes may ask for the same image at once: one downloads, all succeed. After a kill at any point the
    /// next call succeeds and removes what the killed one left.
    ///
    /// # Errors
    /// Nothing stays but downloads, which a later call uses.
    pub fn import(&self, uuid: ImageUuid, options: &ImportOptions, progress: &dyn Progress) -> Result<Imported, ImageError> {
        if let Some(image) = self.get(uuid)? {
            self.sweep_downloads();
            return Ok(Imported { outcome: ImportOutcome::AlreadyInstalled, image, images: Vec::new() });
        }
        let configured = if options.sources.is_empty() { Self::sources(&self.layout)? } else { options.sources.clone() };
        if configured.is_empty() {
            return Err(ImageError::NoSources);
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ImageError::System("start a client for image sources", error))?;
        let result = self.import_with(&runtime, uuid, &configured, options, progress);
        // Without waiting for a name service that does not answer.
        runtime.shutdown_background();
        self.sweep_downloads();
        result
    }

    fn import_with(
        &self,
        runtime: &tokio::runtime::Runtime,
        uuid: ImageUuid,
        configured: &[Source],
        options: &ImportOptions,
        progress: &dyn Progress,
    ) -> Result<Imported, ImageError> {
        let sources = {
            let _context = runtime.enter();
            Sources::new(configured, &HttpClient::new(options.http.clone()), options.request_id.as_deref())
        };
        let chain = runtime.block_on(self.gather(&sources, uuid, &options.cancel))?;
        if chain.len() > 1 {
            progress.event(&Event::Ancestry(chain.iter().map(|found| found.manifest.uuid).collect()));
        }
        let (locks, mut missing) = self.lock_chain(chain, options, progress)?;
        steps::reached("image.import.locked");
        if missing.is_empty() {
            let image = self.get(uuid)?.ok_or_else(|| self.not_installed(uuid))?;
            return Ok(Imported { outcome: ImportOutcome::WhileWaiting, image, images: Vec::new() });
        }
        for found in &missing {
            options.platform.check(&found.manifest)?;
        }
        for found in &missing {
            runtime.block_on(self.fetch(found, options, progress))?;
        }
        let mut images = Vec::new();
        // The base first.
        while let Some(found) = missing.pop() {
            self.put_in_place(&found, &options.cancel, progress)?;
            images.push(found.manifest.uuid);
        }
        drop(locks);
        let image = self.get(uuid)?.ok_or_else(|| self.not_installed(uuid))?;
        Ok(Imported { outcome: ImportOutcome::Imported, image, images })
    }

    /// The image and its origins that are not installed, the image first.
    async fn gather(&self, sources: &Sources, uuid: ImageUuid, cancel: &CancelToken) -> Result<Vec<Found>, ImageError> {
        let mut chain: Vec<Found> = Vec::new();
        let mut seen = BTreeSet::new();
        let mut next = Some(uuid);
        while let Some(wanted) = next {
            if cancel.is_cancelled() {
                return Err(ImageError::Cancelled(uuid));
            }
            if chain.len() >= MAX_ANCESTRY || !seen.insert(wanted) {
                return Err(ImageError::manifest("origin", format!("the chain of origins of {uuid} does not end")));
            }
            // An origin may have been disabled for new instances; only the image that was asked for must be active.
            let found = sources.find(wanted, chain.is_empty()).await?;
            crate::install::check_installable(&found.manifest)?;
            next = found.manifest.origin;
            if let Some(origin) = next
                && self.is_installed(origin)?
            {
                next = None;
            }
            chain.push(found);
        }
        Ok(chain)
    }

    /// Removes downloads of images that are installed: what an import leaves that was killed after its last step but one.
    fn sweep_downloads(&self) {
        let names = std::fs::read_dir(self.layout.downloads()).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let uuid_of = |name: std::ffi::OsString| name.to_str()?.split_once(".file")?.0.parse::<ImageUuid>().ok();
        for uuid in names.filter_map(uuid_of).collect::<BTreeSet<_>>() {
            // Whoever holds the lock cleans up by itself.
            if let Ok(_lock) = Lock::take(&self.layout.image_lock(uuid), "sweep", Duration::ZERO)
                && matches!(self.is_installed(uuid), Ok(true))
            {
                download::remove(&self.layout, uuid);
            }
        }
    }

    async fn fetch(&self, found: &Found, options: &ImportOptions, progress: &dyn Progress) -> Result<(), ImageError> {
        for (index, file) in found.manifest.files.iter().enumerate() {
            let task = download::Task {
                layout: &self.layout,
                source: &found.source,
                uuid: found.manifest.uuid,
                index,
                file,
                options: &options.download,
                progress,
                cancel: &options.cancel,
            };
            task.run().await?;
        }
        Ok(())
    }

    /// Installs one image from its downloads, and removes them.
    fn put_in_place(&self, found: &Found, cancel: &CancelToken, progress: &dyn Progress) -> Result<(), ImageError> {
        let uuid = found.manifest.uuid;
        let paths: Vec<_> = (0..found.manifest.files.len()).map(|index| download::path(&self.layout, uuid, index)).collect();
        let url = found.source.url().to_string();
        self.install_files(&found.manifest, &found.raw, Some(&url), &paths, cancel, progress)?;
        download::remove(&self.layout, uuid);
        steps::reached("image.import.cleaned");
        Ok(())
    }
}

/// Held import locks, released together.
pub(crate) type Locks = Vec<Lock>;
