//! Why an operation did not happen, in the domain's words.

use std::error::Error as StdError;

/// The result of every operation.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why an operation did not happen.
///
/// One variant for each thing that the caller can do about it; the code and title of each are part of the contract.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not there, or may not be seen: `NotFound("App")` reads "App not found".
    #[error("{0} not found")]
    NotFound(&'static str),
    /// No such path.
    #[error("Unknown request")]
    UnknownRequest,
    /// No token.
    #[error("Authentication error")]
    NotAuthenticated,
    /// A token that is not good.
    #[error("Invalid Auth Token")]
    InvalidToken,
    /// May be seen, but not done.
    #[error("You are not authorized to perform the requested action")]
    Forbidden,
    /// The body breaks a rule; says which, all of one object in one text.
    #[error("{0}")]
    Invalid(String),
    /// Several objects break rules: one entry each.
    #[error("{}", .0.join(", "))]
    InvalidEach(Vec<String>),
    /// A query parameter breaks a rule; the lead text is added outwards.
    #[error("{0}")]
    BadQuery(String),
    /// The body is not JSON.
    #[error("Request invalid due to parse error: invalid request body")]
    Unparsable,
    /// "Bad request: " and this.
    #[error("Bad request: {0}")]
    BadRequest(String),
    /// The body is larger than allowed.
    #[error("The request is larger than {0} bytes")]
    TooLarge(u64),
    /// A named rule of the contract's table of codes, with its text.
    #[error("{1}")]
    Rule(Rule, String),
    /// Something that we need cannot be reached; trying again may help.
    #[error("{0} cannot be reached")]
    Unavailable(&'static str, #[source] Box<dyn StdError + Send + Sync>),
    /// Others changed the same thing at the same time, again and again; trying again may help.
    #[error("too many changes at the same time")]
    Contention(#[source] Box<dyn StdError + Send + Sync>),
    /// Our fault; nothing of it leaves.
    #[error("unexpected failure in {0}")]
    Internal(&'static str, #[source] Box<dyn StdError + Send + Sync>),
}

impl Error {
    /// A failure of ours.
    pub fn internal(what: &'static str, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        Self::Internal(what, cause.into())
    }

    /// A broken rule of the body.
    pub fn invalid(text: impl Into<String>) -> Self {
        Self::Invalid(text.into())
    }

    /// A named rule.
    pub fn rule(rule: Rule, text: impl Into<String>) -> Self {
        Self::Rule(rule, text.into())
    }

    /// A feature flag that is off; `text` is the flag's name or the operator's own words.
    pub fn feature_disabled(text: &str) -> Self {
        Self::rule(Rule::FeatureDisabled, format!("Feature Disabled: {text}"))
    }
}

macro_rules! rules {
    ($($(#[$doc:meta])* $name:ident = $code:literal $title:literal,)*) => {
        /// Rules with a code of their own.
        ///
        /// Source: cloud_controller_ng, `errors/v2.yml` and `errors/v3.yml`.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Rule { $($(#[$doc])* $name,)* }

        impl Rule {
            /// Number and title in error documents.
            pub fn code(self) -> (u32, &'static str) {
                match self { $(Self::$name => ($code, $title),)* }
            }
        }
    };
}

rules! {
    /// The name is taken (apps).
    Uniqueness = 10016 "CF-UniquenessError",
    /// The organization is suspended.
    OrgSuspended = 10017 "CF-OrgSuspended",
    /// The space is suspended.
    SpaceSuspended = 10019 "CF-SpaceSuspended",
    /// The organization or space is being deleted.
    BeingDeleted = 10020 "CF-ResourceBeingDeleted",
    /// UAA cannot be asked.
    UaaUnavailable = 20004 "CF-UaaUnavailable",
    /// A feature flag is off.
    FeatureDisabled = 330002 "CF-FeatureDisabled",
    /// More than 50 labels.
    LabelLimit = 390020 "CF-LabelLimitExceeded",
    /// More than 200 annotations.
    AnnotationLimit = 390023 "CF-AnnotationLimitExceeded",
    /// Deleting a space stopped half-way.
    SpaceDeletionFailed = 290008 "CF-SpaceDeletionFailed",
    /// Deleting an organization stopped half-way.
    OrgDeletionFailed = 290010 "CF-OrganizationDeletionFailed",
    /// The package is too large or not a zip file.
    AppPackageInvalid = 150001 "CF-AppPackageInvalid",
    /// Bits were uploaded before.
    BitsAlreadyUploaded = 150004 "CF-PackageBitsAlreadyUploaded",
    /// Blobs cannot be kept or read.
    BlobstoreUnavailable = 150006 "CF-BlobstoreUnavailable",
    /// There is no room for blobs now.
    BlobstoreFull = 150006 "CF-BlobstoreUnavailable",
    /// The body is not what it should be, and the text says where.
    MessageParse = 1001 "CF-MessageParseError",
    /// There is no buildpack.
    NoBuildpacksFound = 170006 "CF-NoBuildpacksFound",
    /// One build at a time.
    StagingInProgress = 170017 "CF-StagingInProgress",
    /// The runtime does not answer.
    RunnerUnavailable = 170015 "CF-RunnerUnavailable",
    /// What runs is not known now.
    StatsUnavailable = 200002 "CF-StatsUnavailable",
    /// The stack's state forbids staging.
    StackValidationFailed = 250004 "CF-StackValidationFailed",
    /// Name, stack and lifecycle are taken.
    BuildpackNameTaken = 290000 "CF-BuildpackNameStackLifecycleTaken",
    /// The named admin buildpack is disabled.
    BuildpackInvalid = 290003 "CF-BuildpackInvalid",
    /// The zip says another stack.
    BuildpackStacksDontMatch = 390011 "CF-BuildpackStacksDontMatch",
    /// The zip's stack is unknown.
    BuildpackStackDoesNotExist = 390012 "CF-BuildpackStackDoesNotExist",
    /// The zip cannot be read.
    BuildpackZip = 390013 "CF-BuildpackZipError",
    /// The broker's services are used.
    BrokerNotRemovable = 270010 "CF-ServiceBrokerNotRemovable",
    /// The broker was deleted while its catalog was fetched.
    BrokerGone = 270011 "CF-ServiceBrokerGone",
    /// The catalog breaks rules.
    BrokerCatalogInvalid = 270012 "CF-ServiceBrokerCatalogInvalid",
    /// UAA does not take the clients of a broker's dashboards.
    BrokerDashboardFailed = 270013 "CF-ServiceBrokerDashboardClientFailure",
    /// The broker does not give its catalog.
    BrokerRejected = 270020 "CF-ServiceBrokerRequestRejected",
    /// The broker's catalog cannot be read.
    BrokerMalformed = 270021 "CF-ServiceBrokerRequestMalformed",
    /// The broker's catalog cannot be had.
    BrokerSyncFailed = 270022 "CF-ServiceBrokerSyncFailed",
    /// A broker did not do what was asked of it.
    UnableToPerform = 10009 "CF-UnableToPerform",
    /// Work took longer than allowed.
    JobTimeout = 290006 "CF-JobTimeout",
    /// Another operation of the instance runs.
    InstanceBusy = 60016 "CF-AsyncServiceInstanceOperationInProgress",
    /// The instance could not be made in the first place.
    InstanceNotFound = 60004 "CF-ServiceInstanceNotFound",
    /// What belongs to an instance could not be deleted.
    InstanceRecursiveDelete = 60027 "CF-ServiceInstanceRecursiveDeleteFailed",
    /// Bindings of a space that an instance was shared to could not be deleted.
    UnshareFailed = 390001 "CF-ServiceInstanceUnshareFailed",
    /// The broker does not show parameters.
    FetchParametersNotSupported = 120004 "CF-ServiceFetchInstanceParametersNotSupported",
    /// A broker did not answer as it should.
    BrokerBadResponse = 10001 "CF-ServiceBrokerBadResponse",
    /// A broker did not answer in time.
    BrokerTimeout = 10001 "CF-HttpClientTimeout",
    /// A broker has another operation under way.
    BrokerConcurrency = 270018 "CF-ServiceBrokerConcurrencyError",
    /// The plan belongs to another offering.
    InvalidRelation = 1002 "CF-InvalidRelation",
    /// What binds an app or a route could not be removed.
    AppRecursiveDelete = 150009 "CF-AppRecursiveDeleteFailed",
    /// A binding that was not made: there is nothing to know of it.
    NotMade = 10010 "CF-ResourceNotFound",
    /// The route has this service already.
    AlreadyBoundToRoute = 130008 "CF-ServiceInstanceAlreadyBoundToSameRoute",
    /// The broker does not show parameters of bindings.
    FetchBindingParametersNotSupported = 90007 "CF-ServiceFetchBindingParametersNotSupported",
    /// A workload cannot become what is asked for.
    WorkloadConflict = 10008 "CF-UnprocessableEntity",
    /// Another operation of the binding runs.
    BindingBusy = 90008 "CF-AsyncServiceBindingOperationInProgress",
}

impl Error {
    /// The entries of the error document and of failed jobs: code, title, detail.
    pub fn entries(&self) -> Vec<(u32, &'static str, String)> {
        let one = |code, title| vec![(code, title, self.to_string())];
        match self {
            Self::NotFound(_) => one(10010, "CF-ResourceNotFound"),
            Self::UnknownRequest => one(10000, "CF-NotFound"),
            Self::NotAuthenticated => one(10002, "CF-NotAuthenticated"),
            Self::InvalidToken => one(1000, "CF-InvalidAuthToken"),
            Self::Forbidden => one(10003, "CF-NotAuthorized"),
            Self::Invalid(_) => one(10008, "CF-UnprocessableEntity"),
            Self::InvalidEach(texts) => texts.iter().map(|t| (10008, "CF-UnprocessableEntity", t.clone())).collect(),
            Self::BadQuery(text) => {
                vec![(10005, "CF-BadQueryParameter", format!("The query parameter is invalid: {text}"))]
            }
            Self::Unparsable => one(1001, "CF-MessageParseError"),
            Self::BadRequest(_) => one(1004, "CF-BadRequest"),
            Self::TooLarge(_) => one(10004, "CF-InvalidRequest"),
            Self::Rule(rule, _) => one(rule.code().0, rule.code().1),
            Self::Unavailable(..) | Self::Contention(_) => one(10015, "CF-ServiceUnavailable"),
            Self::Internal(..) => vec![(10001, "UnknownError", "An unknown error occurred.".into())],
        }
    }
}

impl From<diesel::result::Error> for Error {
    fn from(e: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error as Sql};
        let unavailable = match &e {
            Sql::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _) => true,
            Sql::DatabaseError(_, info) => info.message().contains("disk is full"),
            _ => false,
        };
        if unavailable {
            return Self::Unavailable("the database", e.into());
        }
        let contended = match &e {
            // A key that nobody translated: somebody else did the same, or took away what is referred to, at the same time.
            Sql::DatabaseError(Kind::SerializationFailure | Kind::UniqueViolation | Kind::ForeignKeyViolation, _) => true,
            Sql::DatabaseError(_, info) => {
                info.message().contains("deadlock detected") || info.message().contains("database is locked")
            }
            _ => false,
        };
        if contended { Self::Contention(e.into()) } else { Self::Internal("the store", e.into()) }
    }
}

/// Translates a broken unique key; every other failure stays what it is.
pub fn taken<T>(result: diesel::QueryResult<T>, why: impl FnOnce() -> Error) -> Result<T> {
    use diesel::result::{DatabaseErrorKind as Kind, Error as Sql};
    match result {
        Err(Sql::DatabaseError(Kind::UniqueViolation, _)) => Err(why()),
        other => Ok(other?),
    }
}
