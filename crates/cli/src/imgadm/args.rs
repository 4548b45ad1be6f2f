//! The command line of imgadm (instances.md section 8.8).

use std::{ffi::OsString, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use clap_complete::Shell;
use triton_agent::CommonArgs;

/// Manage the images of this compute node.
///
/// Exit status: 0 success, 1 failure, 2 wrong usage, 3 the image (or its origin) is not installed.
#[derive(Debug, Parser)]
#[command(name = "imgadm", version, disable_help_subcommand = true)]
pub(crate) struct Imgadm {
    #[command(flatten)]
    pub(crate) common: CommonArgs,
    /// Log everything, as bunyan records on standard error
    #[arg(short)]
    pub(crate) verbose: bool,
    /// On failure, end standard error with a log record that has `err.code` and `err.message`
    #[arg(short = 'E', global = true)]
    pub(crate) error_record: bool,
    #[command(subcommand)]
    pub(crate) verb: Option<Verb>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    /// List, add, delete, edit or check the image sources
    Sources(Sources),
    /// List images that the sources offer
    Avail(Listing),
    /// Print the manifest of an image from the sources
    Show(Show),
    /// Import an image, with its origins, from the sources
    Import(Import),
    /// Import an image from an OCI layout: a directory or tar archive of skopeo, buildah, podman or docker buildx
    ///
    /// Each layer becomes an image of type docker, with the layer below as its origin; images share the layers that they have in
    /// common. Instances made from the image run its entrypoint and command. Importing the same image again, here or on another
    /// node, gives the same uuid.
    #[command(
        name = "import-oci",
        after_help = "Examples:\n  skopeo copy docker://docker.io/library/nginx:1.27 oci:/var/tmp/nginx:1.27\n  imgadm import-oci \
                            /var/tmp/nginx:1.27"
    )]
    ImportOci(ImportOci),
    /// Install an image from a manifest and its file
    Install(Install),
    /// List installed images
    List(Listing),
    /// Print an installed image as JSON
    #[command(visible_alias = "info")]
    Get(Get),
    /// Delete installed images
    Delete(Delete),
    /// Show the chain of origins of an installed image
    Ancestry(Ancestry),
    /// Delete images that no instance and no other image is made from
    Vacuum(Vacuum),
    /// Bring the manifests of installed images up to date with the sources
    Update(Update),
    /// Make an image from a stopped instance
    ///
    /// Two files are written: the image, and its manifest (`.imgmanifest`), for `imgadm install` and `imgadm publish`. The manifest
    /// has what the instance's own image says of users, requirements and the like; name and version must be given. What is in
    /// the guest's root goes into the image as it is: host keys, logs and secrets in it are the maker's to remove before.
    /// Metadata, tags and routes of the instance are not in it.
    #[command(
        after_help = "Examples:\n  imgadm create 6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9001 name=web version=1.2.0 -c gzip -o /var/tmp\n  \
                            imgadm create 6a3f0c4e-2f0b-4c55-9a3c-0d1b5a7e9001 -m web.json -i -p http://imgapi.dc.example.com"
    )]
    Create(Create),
    /// Publish an image, its manifest and its file, to an image server
    Publish(Publish),
    /// Explain a command
    Help {
        /// The command
        verb: Option<String>,
    },
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: Shell,
    },
    /// Anything else
    #[command(external_subcommand)]
    Unknown(Vec<OsString>),
}

impl Verb {
    /// The word of the verb; none for one that is not known.
    pub(crate) fn name(&self) -> Option<&'static str> {
        Some(match self {
            Self::Sources(_) => "sources",
            Self::Avail(_) => "avail",
            Self::Show(_) => "show",
            Self::Import(_) => "import",
            Self::ImportOci(_) => "import-oci",
            Self::Install(_) => "install",
            Self::List(_) => "list",
            Self::Get(_) => "get",
            Self::Delete(_) => "delete",
            Self::Ancestry(_) => "ancestry",
            Self::Vacuum(_) => "vacuum",
            Self::Update(_) => "update",
            Self::Create(_) => "create",
            Self::Publish(_) => "publish",
            Self::Help { .. } => "help",
            Self::Completion { .. } => "completion",
            Self::Unknown(_) => return None,
        })
    }
}

#[derive(Debug, Args)]
pub(crate) struct Sources {
    /// Show a table with types
    #[arg(short)]
    pub(crate) verbose: bool,
    /// Print JSON
    #[arg(short)]
    pub(crate) json: bool,
    /// Add a source behind the others; it must answer a ping
    #[arg(short, value_name = "URL", group = "action")]
    pub(crate) add: Option<String>,
    /// Type of the added source
    #[arg(short = 't', value_name = "TYPE", default_value = "imgapi", requires = "add")]
    pub(crate) kind: String,
    /// Do not check certificates of the added source
    #[arg(short = 'k', requires = "add")]
    pub(crate) insecure: bool,
    /// Add the source even if it does not answer
    #[arg(short, requires = "add")]
    pub(crate) force: bool,
    /// Delete a source
    #[arg(short, value_name = "URL", group = "action")]
    pub(crate) delete: Option<String>,
    /// Edit the sources, as JSON, with $VISUAL or $EDITOR
    #[arg(short, group = "action")]
    pub(crate) edit: bool,
    /// Check that each source answers
    #[arg(short, group = "action")]
    pub(crate) check: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Listing {
    /// Print JSON
    #[arg(short)]
    pub(crate) json: bool,
    /// Leave out the header line
    #[arg(short = 'H')]
    pub(crate) no_header: bool,
    /// Fields to show, separated by commas
    #[arg(short, value_name = "FIELD,...", default_value = "uuid,name,version,os,type,pub")]
    pub(crate) output: String,
    /// Fields to sort by, separated by commas; `-FIELD` in reverse
    #[arg(short, value_name = "FIELD,...", default_value = "published_at,name", allow_hyphen_values = true)]
    pub(crate) sort: String,
    /// `FIELD=VALUE`, or `FIELD=~TEXT` for a part of the value
    #[arg(value_name = "FILTER")]
    pub(crate) filters: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Show {
    /// The image
    pub(crate) uuid: String,
}

#[derive(Debug, Args)]
pub(crate) struct Import {
    /// No progress bar
    #[arg(short)]
    pub(crate) quiet: bool,
    /// The pool to import to: this node's
    #[arg(short = 'P', value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// Ask this source instead of the configured ones; may be repeated
    #[arg(short = 'S', value_name = "URL")]
    pub(crate) sources: Vec<String>,
    /// Receive a raw ZFS stream from another compute node
    #[arg(long)]
    pub(crate) zstream: bool,
    /// The image
    pub(crate) uuid: String,
}

#[derive(Debug, Args)]
pub(crate) struct ImportOci {
    /// No progress bar
    #[arg(short)]
    pub(crate) quiet: bool,
    /// The pool to import to: this node's
    #[arg(short = 'P', value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The layout, and which of its images: not needed if it has one only, or one called latest
    #[arg(value_name = "PATH[:TAG]")]
    pub(crate) image: String,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// No progress bar
    #[arg(short)]
    pub(crate) quiet: bool,
    /// The pool to install to: this node's
    #[arg(short = 'P', value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The manifest, a JSON file
    #[arg(short, value_name = "FILE", required = true)]
    pub(crate) manifest: Option<PathBuf>,
    /// The image's file; twice for a split LXD image (metadata, then root)
    #[arg(short, value_name = "FILE", required = true)]
    pub(crate) file: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// With the instances and images made from it
    #[arg(short)]
    pub(crate) recursive: bool,
    /// The pool to look in
    #[arg(short = 'P', value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The image
    pub(crate) uuid: String,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// The pool to delete from
    #[arg(short = 'P', value_name = "POOL")]
    pub(crate) pool: Option<String>,
    /// The images
    #[arg(required = true)]
    pub(crate) uuids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Ancestry {
    /// Print JSON
    #[arg(short)]
    pub(crate) json: bool,
    /// Leave out the header line
    #[arg(short = 'H')]
    pub(crate) no_header: bool,
    /// Fields to show, separated by commas
    #[arg(short, value_name = "FIELD,...", default_value = "uuid,name,version,published")]
    pub(crate) output: String,
    /// The image
    pub(crate) uuid: String,
}

#[derive(Debug, Args)]
pub(crate) struct Vacuum {
    /// Only say what would be deleted
    #[arg(short = 'n')]
    pub(crate) dry_run: bool,
    /// Do not ask
    #[arg(short)]
    pub(crate) force: bool,
}

#[derive(Debug, Args)]
pub(crate) struct Update {
    /// Only say what would be changed
    #[arg(short = 'n')]
    pub(crate) dry_run: bool,
    /// The images; all installed ones when none is named
    pub(crate) uuids: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Create {
    /// Fields of the manifest, a JSON file; `-` for standard input. FIELD=VALUE words win over it
    #[arg(short, value_name = "FILE")]
    pub(crate) manifest: Option<PathBuf>,
    /// A directory for the two files, or how their paths begin [default: the current directory]
    #[arg(short, value_name = "PATH")]
    pub(crate) output: Option<PathBuf>,
    /// Compression of the image's file: none, gzip, bzip2 or xz
    #[arg(short, value_name = "NAME", default_value = "none")]
    pub(crate) compression: triton_image::Compression,
    /// Only what differs from the instance's image, which becomes the origin (storage in ZFS)
    #[arg(short)]
    pub(crate) incremental: bool,
    /// Most images that the chain of origins of an incremental image may have
    #[arg(long, value_name = "NUMBER", default_value_t = triton_image::MAX_ORIGIN_DEPTH)]
    pub(crate) max_origin_depth: usize,
    /// Run this script in the instance before
    #[arg(short, value_name = "SCRIPT")]
    pub(crate) script: Option<PathBuf>,
    /// Publish the image to this server, and keep no files unless -o says where
    #[arg(short, value_name = "URL")]
    pub(crate) publish: Option<String>,
    /// No progress bar
    #[arg(short)]
    pub(crate) quiet: bool,
    /// The instance
    pub(crate) uuid: String,
    /// Fields of the manifest: `name=web version=1.0.0`; values that are JSON are taken as such
    #[arg(value_name = "FIELD=VALUE")]
    pub(crate) fields: Vec<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Publish {
    /// The manifest, a JSON file
    #[arg(short, value_name = "FILE", required = true)]
    pub(crate) manifest: Option<PathBuf>,
    /// The image's file
    #[arg(short, value_name = "FILE", required = true)]
    pub(crate) file: Option<PathBuf>,
    /// No progress bar
    #[arg(short)]
    pub(crate) quiet: bool,
    /// The image server
    pub(crate) url: String,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Imgadm::command().debug_assert();
    }
}
