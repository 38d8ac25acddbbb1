//! Counts and times, for Prometheus.

use crate::Kind;
use prometheus::{Encoder, HistogramOpts, HistogramVec, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};
use std::time::Duration;

const SECONDS: [f64; 11] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];

/// What is counted. Clones share it.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    operations: IntCounterVec,
    operation_seconds: HistogramVec,
    running: IntGaugeVec,
    instances: IntGauge,
    bindings: IntGauge,
}

impl Metrics {
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let histogram = |name, help| HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let metrics = Self {
            registry: Registry::new(),
            requests: IntCounterVec::new(
                Opts::new("broker_requests_total", "Requests that were answered."),
                &["method", "route", "status"],
            )?,
            request_seconds: HistogramVec::new(
                histogram("broker_request_seconds", "Time to the answer of a request."),
                &["method", "route"],
            )?,
            operations: IntCounterVec::new(
                Opts::new("broker_operations_total", "Calls of the broker's methods that came to an end."),
                &["kind", "outcome"],
            )?,
            operation_seconds: HistogramVec::new(
                histogram("broker_operation_seconds", "Time that a call of a broker's method took."),
                &["kind"],
            )?,
            running: IntGaugeVec::new(Opts::new("broker_operations_running", "Operations that run."), &["kind"])?,
            instances: IntGauge::new("broker_instances", "Service instances that there are.")?,
            bindings: IntGauge::new("broker_bindings", "Service bindings that there are.")?,
        };
        metrics.registry.register(Box::new(metrics.requests.clone()))?;
        metrics.registry.register(Box::new(metrics.request_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.operations.clone()))?;
        metrics.registry.register(Box::new(metrics.operation_seconds.clone()))?;
        metrics.registry.register(Box::new(metrics.running.clone()))?;
        metrics.registry.register(Box::new(metrics.instances.clone()))?;
        metrics.registry.register(Box::new(metrics.bindings.clone()))?;
        Ok(metrics)
    }

    pub(crate) fn answered(&self, method: &str, route: &str, status: u16, took: Duration) {
        self.requests.with_label_values(&[method, route, &status.to_string()]).inc();
        self.request_seconds.with_label_values(&[method, route]).observe(took.as_secs_f64());
    }

    pub(crate) fn began(&self, kind: Kind) {
        self.running.with_label_values(&[kind.as_str()]).inc();
    }

    /// `ok`: absent if it was left to the next start.
    pub(crate) fn ended(&self, kind: Kind, ok: Option<bool>, took: Duration) {
        self.running.with_label_values(&[kind.as_str()]).dec();
        let outcome = match ok {
            Some(true) => "succeeded",
            Some(false) => "failed",
            None => "left",
        };
        self.operations.with_label_values(&[kind.as_str(), outcome]).inc();
        self.operation_seconds.with_label_values(&[kind.as_str()]).observe(took.as_secs_f64());
    }

    /// As text, with what there is now.
    pub(crate) fn text(&self, instances: i64, bindings: i64) -> Result<Vec<u8>, prometheus::Error> {
        self.instances.set(instances);
        self.bindings.set(bindings);
        let mut text = vec![];
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}
