//! Calls to brokers over HTTP: the crate `osb` sends them and judges the answers.

use crate::brokers::{Address, Brokers, Call, Failure, FailureKind, Object, OfInstance, Reply, Request};
use async_trait::async_trait;
use osb::{
    OriginatingIdentity, Requirement,
    client::{self, BrokerClient, Clients, FailureKind as Kind, Ids, Outcome, Poll, Polled},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// What a binding may bring as far as this crate is concerned; what the offering declares is looked at where it is known.
const EVERYTHING: [Requirement; 3] = [Requirement::SyslogDrain, Requirement::RouteForwarding, Requirement::VolumeMount];

#[async_trait]
impl Brokers for Clients {
    async fn call(&self, call: Call) -> Reply {
        let broker = match address(&call.broker) {
            Ok(address) => self.broker(address),
            Err(failure) => return Reply::Failed(failure),
        };
        let with =
            client::Call { request_id: call.id, identity: call.user.as_deref().map(OriginatingIdentity::user), plan: call.plan };
        match send(&broker, &with, call.request).await {
            Ok(reply) => reply,
            Err(failure) => Reply::Failed(failure),
        }
    }
}

fn address(broker: &Address) -> Result<client::Address, Failure> {
    let wrong = |why: url::ParseError| {
        let text = format!("The service broker could not be reached: {} is no address: {why}", broker.url);
        Failure::new(FailureKind::Unreachable, text)
    };
    Ok(client::Address {
        name: broker.name.clone(),
        url: broker.url.parse().map_err(wrong)?,
        user: broker.username.clone(),
        password: broker.password.clone(),
        skip_tls_verify: false,
    })
}

async fn send(broker: &BrokerClient, call: &client::Call, request: Request) -> Result<Reply, Failure> {
    Ok(match request {
        Request::Catalog { .. } => fetched(broker.catalog(call).await),
        // Nothing of the broker.
        Request::ForgetDashboards => Reply::Done(Object::new()),
        Request::Provision { instance, body } => changed(broker.provision(call, &instance, &typed(body)?, true).await),
        Request::Update { instance, body } => changed(broker.update(call, &instance, &typed(body)?, true).await),
        Request::Deprovision(of) => changed(broker.deprovision(call, &of.instance, ids(&of), true).await),
        Request::FetchInstance(of) => fetched(broker.fetch_instance(call, &of.instance, ids(&of)).await),
        Request::PollInstance { of, operation, deleting } => {
            polled(broker.poll_instance(call, &of.instance, ids(&of), operation.as_deref(), what(deleting)).await)
        }
        Request::Bind { instance, binding, body, accepts_incomplete } => {
            changed(broker.bind(call, &instance, &binding, &typed(body)?, &EVERYTHING, accepts_incomplete).await)
        }
        Request::Unbind { of, binding } => changed(broker.unbind(call, &of.instance, &binding, ids(&of), true).await),
        Request::FetchBinding { of, binding } => {
            fetched(broker.fetch_binding(call, &of.instance, &binding, ids(&of), &EVERYTHING).await)
        }
        Request::PollBinding { of, binding, operation, deleting } => {
            polled(broker.poll_binding(call, &of.instance, &binding, ids(&of), operation.as_deref(), what(deleting)).await)
        }
        Request::ListBackups { instance } => fetched(broker.list_backups(call, &instance).await),
        Request::CreateBackup { instance, backup } => changed(broker.create_backup(call, &instance, &backup).await),
        Request::DeleteBackup { instance, backup } => changed(broker.delete_backup(call, &instance, &backup).await),
        Request::Restore { instance, backup } => changed(broker.restore(call, &instance, &backup).await),
    })
}

fn ids(of: &OfInstance) -> Ids<'_> {
    Ids { service_id: &of.service_id, plan_id: &of.plan_id }
}

fn what(deleting: bool) -> Polled {
    if deleting { Polled::Delete } else { Polled::Create }
}

fn typed<T: DeserializeOwned>(body: Value) -> Result<T, Failure> {
    serde_json::from_value(body)
        .map_err(|e| Failure::new(FailureKind::Platform, format!("The request to the service broker cannot be written: {e}")))
}

fn object(body: &impl Serialize) -> Result<Object, Failure> {
    match serde_json::to_value(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => {
            let text = "The service broker returned an invalid response: expected a JSON object";
            Err(Failure::new(FailureKind::Malformed, text))
        }
        Err(e) => Err(Failure::new(FailureKind::Platform, format!("The service broker's answer cannot be kept: {e}"))),
    }
}

fn done(body: &impl Serialize) -> Reply {
    object(body).map_or_else(Reply::Failed, Reply::Done)
}

fn fetched<T: Serialize>(fetched: Result<T, client::Failure>) -> Reply {
    match fetched {
        Ok(body) => done(&body),
        Err(failure) => Reply::Failed(failed(failure)),
    }
}

fn changed<T: Serialize>(outcome: Outcome<T>) -> Reply {
    match outcome {
        Outcome::Done(body) => done(&body),
        Outcome::Accepted { operation, retry_after, body } => match object(&body) {
            Ok(body) => Reply::Accepted { operation, body, retry_after },
            Err(failure) => Reply::Failed(failure),
        },
        Outcome::Gone => Reply::Done(Object::new()),
        Outcome::Failed(failure) => Reply::Failed(failed(failure)),
    }
}

fn polled(poll: Poll) -> Reply {
    match poll {
        Poll::InProgress { description, retry_after } => Reply::InProgress { description, retry_after },
        Poll::Succeeded { description } => {
            Reply::Done(description.map(|text| ("description".to_owned(), text.into())).into_iter().collect())
        }
        Poll::Failed { description, instance_usable, update_repeatable } => {
            let text = description.unwrap_or_else(|| "The service broker says that the operation failed.".into());
            let failure = Failure::new(FailureKind::OperationFailed, text);
            let (instance_usable, update_repeatable) = (Some(instance_usable), Some(update_repeatable));
            Reply::Failed(Failure { instance_usable, update_repeatable, ..failure })
        }
        Poll::Gone => Reply::Done(Object::new()),
        Poll::Unclear(failure) => Reply::Failed(failed(failure)),
    }
}

fn failed(failure: client::Failure) -> Failure {
    let kind = match failure.kind {
        Kind::AddressRefused | Kind::Unreachable => FailureKind::Unreachable,
        Kind::Timeout => FailureKind::Timeout,
        Kind::Unauthorized => FailureKind::Unauthorized,
        Kind::Conflict => FailureKind::Conflict,
        Kind::Gone => FailureKind::Gone,
        Kind::AsyncRequired => FailureKind::AsyncRequired,
        Kind::Concurrency => FailureKind::Concurrency,
        Kind::RequiresApp => FailureKind::RequiresApp,
        Kind::MaintenanceInfoConflict => FailureKind::MaintenanceInfo,
        Kind::NotFound | Kind::Rejected => FailureKind::Rejected,
        Kind::Broken | Kind::BadResponse => FailureKind::BadResponse,
        Kind::Malformed | Kind::TooLarge => FailureKind::Malformed,
    };
    Failure {
        kind,
        text: failure.message,
        status: failure.status,
        orphan: failure.orphan,
        instance_usable: Some(failure.instance_usable),
        update_repeatable: Some(failure.update_repeatable),
        retry_after: failure.retry_after,
    }
}
