//! Arguments of the verbs that only look.

use clap::Args;
use triton_types::InstanceUuid;

use super::Input;

/// Arguments of `list`.
#[derive(Debug, Args)]
pub struct List {
    /// Fields joined by ':' and no header, for scripts
    #[arg(short = 'p', long)]
    pub parseable: bool,
    /// No header
    #[arg(short = 'H')]
    pub no_header: bool,
    /// A header even with -p
    #[arg(long = "header")]
    pub header: bool,
    /// Fields to print, comma-separated [default: uuid,type,ram,state,alias]
    #[arg(short = 'o', value_name = "FIELDS")]
    pub order: Option<String>,
    /// Fields to sort by, '-' in front for descending [default: ram,uuid]
    #[arg(short = 's', value_name = "FIELDS")]
    pub sort: Option<String>,
    /// Only instances whose field has this value (`k=v`) or matches this expression (`k=~re`)
    #[arg(value_name = "FIELD=VALUE")]
    pub filters: Vec<String>,
}

/// Arguments of `lookup`.
#[derive(Debug, Args)]
pub struct Lookup {
    /// Print JSON objects instead of uuids
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Fail unless exactly one instance matches
    #[arg(short = '1', long)]
    pub unique: bool,
    /// With -j, print only these fields, comma-separated
    #[arg(short = 'o', value_name = "FIELDS")]
    pub order: Option<String>,
    /// Only instances whose field has this value (`k=v`) or matches this expression (`k=~re`)
    #[arg(value_name = "FIELD=VALUE")]
    pub filters: Vec<String>,
}

/// Arguments of `info`.
#[derive(Debug, Args)]
pub struct Info {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// Kinds of information, comma-separated [default: all]
    pub types: Option<String>,
}

/// Arguments of `validate`.
#[derive(Debug, Args)]
pub struct Validate {
    /// `create` or `update`
    pub action: String,
    /// For `update`: the brand of the instance
    pub brand: Option<String>,
    #[command(flatten)]
    pub input: Input,
}

/// Arguments of `events`.
#[derive(Debug, Args)]
pub struct Events {
    /// Text with whole uuids and whole times
    #[arg(short = 'f', long)]
    pub full: bool,
    /// One JSON object per line
    #[arg(short = 'j', long)]
    pub json: bool,
    /// Begin with a `ready` event that holds every instance
    #[arg(short = 'r', long)]
    pub ready: bool,
    /// Only this instance
    pub uuid: Option<InstanceUuid>,
}

/// Arguments of `sysrq`.
#[derive(Debug, Args)]
pub struct Sysrq {
    /// The instance's uuid
    pub uuid: InstanceUuid,
    /// `nmi` or `screenshot`
    pub action: Option<String>,
}
