//! Manifests: YAML in, a checked description of apps out; what an app looks like as a manifest; and the difference of both.
//!
//! - [`parse`]: YAML with limits, into values.
//! - [`check`]: values into [`check::AppManifest`]s, with every broken rule said at once.
//! - [`diff`]: what applying a manifest would change.
//! - [`render`]: an app as a manifest.
//!
//! Nothing here touches the store. Source: `app/messages/app_manifest_message.rb`, `app/actions/space_diff_manifest.rb` and
//! `app/presenters/v3/app_manifest_presenter.rb` in cloudfoundry/cloud_controller_ng.

pub mod check;
pub mod diff;
pub mod parse;
pub mod render;

/// Why a manifest is refused before anything happens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Larger than [`parse::MAX_BYTES`], aliases, not UTF-8: `Bad request: ...`.
    Bad(String),
    /// No YAML, or no map: `Request invalid due to parse error: ...`, with the line.
    Unreadable(String),
    /// Rules that are broken, each a message of its own.
    Invalid(Vec<String>),
}
