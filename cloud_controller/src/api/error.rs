//! What a failed request is answered: the only file that knows status codes.

use crate::domain::{Error, Rule};
use actix_web::{HttpResponse, ResponseError, http::StatusCode};
use serde_json::json;
use std::fmt;

/// A failed request.
pub struct Failure(pub Error);

/// What every handler returns.
pub type Answer = Result<HttpResponse, Failure>;

impl<E: Into<Error>> From<E> for Failure {
    fn from(e: E) -> Self {
        Self(e.into())
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}
impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl ResponseError for Failure {
    fn status_code(&self) -> StatusCode {
        let status = match &self.0 {
            Error::NotFound(_) | Error::UnknownRequest => 404,
            Error::NotAuthenticated | Error::InvalidToken => 401,
            Error::Forbidden => 403,
            Error::Invalid(_) | Error::InvalidEach(_) => 422,
            Error::BadQuery(_) | Error::Unparsable | Error::BadRequest(_) => 400,
            Error::TooLarge(_) => 413,
            Error::Rule(rule, _) => rule_status(*rule),
            Error::Unavailable(..) | Error::Contention(_) => 503,
            Error::Internal(..) => 500,
        };
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let status = self.status_code();
        if status.is_server_error() {
            tracing::error!(error = &self.0 as &dyn std::error::Error, "request failed");
        }
        let entries = self.0.entries().into_iter();
        let errors: Vec<_> =
            entries.map(|(code, title, detail)| json!({"code": code, "title": title, "detail": detail})).collect();
        HttpResponse::build(status).json(json!({ "errors": errors }))
    }
}

fn rule_status(rule: Rule) -> u16 {
    match rule {
        Rule::OrgSuspended | Rule::SpaceSuspended | Rule::FeatureDisabled => 403,
        Rule::UaaUnavailable | Rule::RunnerUnavailable | Rule::StatsUnavailable | Rule::BlobstoreFull => 503,
        Rule::SpaceDeletionFailed
        | Rule::OrgDeletionFailed
        | Rule::BlobstoreUnavailable
        | Rule::AppRecursiveDelete
        | Rule::BrokerCatalogInvalid
        | Rule::BrokerDashboardFailed
        | Rule::BrokerRejected
        | Rule::BrokerMalformed
        | Rule::BrokerSyncFailed
        | Rule::InstanceRecursiveDelete
        | Rule::BrokerBadResponse
        | Rule::UnshareFailed => 502,
        Rule::BrokerTimeout => 504,
        Rule::InstanceBusy | Rule::BindingBusy | Rule::WorkloadConflict => 409,
        Rule::InstanceNotFound | Rule::NotMade => 404,
        Rule::JobTimeout => 524,
        Rule::AppPackageInvalid
        | Rule::UnableToPerform
        | Rule::FetchBindingParametersNotSupported
        | Rule::FetchParametersNotSupported
        | Rule::InvalidRelation
        | Rule::MessageParse
        | Rule::BitsAlreadyUploaded
        | Rule::NoBuildpacksFound
        | Rule::BuildpackInvalid => 400,
        Rule::AlreadyBoundToRoute
        | Rule::BrokerConcurrency
        | Rule::Uniqueness
        | Rule::BrokerNotRemovable
        | Rule::BrokerGone
        | Rule::BeingDeleted
        | Rule::LabelLimit
        | Rule::AnnotationLimit
        | Rule::StagingInProgress
        | Rule::StackValidationFailed
        | Rule::BuildpackNameTaken
        | Rule::BuildpackStacksDontMatch
        | Rule::BuildpackStackDoesNotExist
        | Rule::BuildpackZip => 422,
    }
}
