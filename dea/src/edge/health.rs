//! Probes: start-up checks every 25 ms at first, up to 2 s apart; then one each interval.

use crate::domain::core::{ProbePlan, Verdict};
use std::{
    net::{Ipv4Addr, SocketAddrV4},
    time::Duration,
};
use tokio::{
    net::TcpStream,
    sync::mpsc,
    time::{Instant, sleep, timeout},
};

const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Checks one instance until a verdict ends it; hands verdicts to `tell`. `client` is that of [`http_client`].
pub async fn check(plan: ProbePlan, client: Option<reqwest::Client>, tell: mpsc::Sender<Verdict>) {
    let startup = seconds(plan.check.timeout_s, 60);
    let interval = seconds(plan.check.interval_s, 30);
    let limit = seconds(plan.check.invocation_timeout_s, 1);
    if !plan.running {
        let verdict = start_up(&plan, &client, startup, limit).await;
        let healthy = verdict == Verdict::Healthy;
        if tell.send(verdict).await.is_err() || !healthy {
            return;
        }
    }
    if plan.check.kind == "process" {
        return;
    }
    loop {
        sleep(interval).await;
        if let Err(cause) = probe(&plan, &client, limit).await {
            let _ = tell.send(Verdict::Unhealthy { cause }).await;
            return;
        }
    }
}

fn seconds(seconds: u32, default: u64) -> Duration {
    Duration::from_secs(if seconds == 0 { default } else { seconds.into() })
}

async fn start_up(plan: &ProbePlan, client: &Option<reqwest::Client>, allowed: Duration, limit: Duration) -> Verdict {
    let deadline = Instant::now() + allowed;
    let mut pause = FIRST_PAUSE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let Err(cause) = probe(plan, client, limit.min(left.max(FIRST_PAUSE))).await else { return Verdict::Healthy };
        if Instant::now() + pause >= deadline {
            sleep(deadline.saturating_duration_since(Instant::now())).await;
            return Verdict::NeverHealthy { after: allowed, cause };
        }
        sleep(pause).await;
        pause = (pause * 3 / 2).min(LONGEST_PAUSE);
    }
}

/// One probe.
///
/// # Errors
/// What it met, as users read it.
async fn probe(plan: &ProbePlan, client: &Option<reqwest::Client>, limit: Duration) -> Result<(), String> {
    match (plan.check.kind.as_str(), plan.ports.first(), client) {
        ("process", _, _) | (_, None, _) => Ok(()),
        ("http", Some(port), Some(client)) => http(client, plan.address, *port, &plan.check.http_endpoint, limit).await,
        _ => {
            for port in &plan.ports {
                tcp(SocketAddrV4::new(plan.address, *port), limit).await?;
            }
            Ok(())
        }
    }
}

async fn tcp(address: SocketAddrV4, limit: Duration) -> Result<(), String> {
    let cause = match timeout(limit, TcpStream::connect(address)).await {
        Ok(Ok(_)) => return Ok(()),
        Ok(Err(e)) if e.kind() == std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        Ok(Err(e)) => e.to_string(),
        Err(_) => format!("timed out after {:.2} seconds", limit.as_secs_f64()),
    };
    Err(format!("Failed to make TCP connection to {address}: {cause}"))
}

/// A client that asks the instance and nobody else: no proxy, no redirects. Absent where this process cannot have one; then
/// `http` checks only look whether the port is open.
pub fn http_client() -> Option<reqwest::Client> {
    reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).pool_max_idle_per_host(0).build().ok()
}

async fn http(client: &reqwest::Client, address: Ipv4Addr, port: u16, endpoint: &str, limit: Duration) -> Result<(), String> {
    // A path and nothing else: `@elsewhere` must not become an authority.
    let path = format!("/{}", endpoint.trim_start_matches('/'));
    let request = client.get(format!("http://{address}:{port}{path}")).header("User-Agent", "healthcheck").timeout(limit);
    let cause = match request.send().await {
        Ok(answer) if answer.status() == reqwest::StatusCode::OK => return Ok(()),
        Ok(answer) => format!("received status code {}", answer.status().as_u16()),
        Err(e) if e.is_timeout() => format!("timed out after {:.2} seconds", limit.as_secs_f64()),
        Err(e) if e.is_connect() => "connection refused".to_owned(),
        Err(_) => "the answer is not HTTP".to_owned(),
    };
    Err(format!("Failed to make HTTP request to '{path}' on port {port}: {cause}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use cloud_controller_client::HealthCheck;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    fn plan(kind: &str, port: u16, running: bool) -> ProbePlan {
        let check =
            HealthCheck { kind: kind.into(), timeout_s: 1, invocation_timeout_s: 1, interval_s: 1, http_endpoint: "@x".into() };
        ProbePlan { address: Ipv4Addr::LOCALHOST, ports: vec![port], check, running }
    }

    async fn first_verdict(plan: ProbePlan) -> Verdict {
        foundation::tls::install_crypto();
        let (tell, mut told) = mpsc::channel(1);
        let task = tokio::spawn(check(plan, http_client(), tell));
        let verdict = told.recv().await.unwrap();
        task.abort();
        verdict
    }

    async fn answers(status: &'static str) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 1024];
                let _ = stream.read(&mut request).await;
                let _ = stream
                    .write_all(
                        format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\nLocation: http://127.0.0.1:1/\r\n\r\n").as_bytes(),
                    )
                    .await;
            }
        });
        port
    }

    #[tokio::test]
    async fn a_port_that_opens_is_healthy_and_one_that_does_not_is_told_with_its_cause() {
        let open = answers("200 OK").await;
        assert_eq!(first_verdict(plan("port", open, false)).await, Verdict::Healthy);
        let Verdict::NeverHealthy { after, cause } = first_verdict(plan("port", 1, false)).await else { panic!() };
        assert_eq!((after.as_secs(), cause.as_str()), (1, "Failed to make TCP connection to 127.0.0.1:1: connection refused"));
    }

    #[tokio::test]
    async fn only_200_is_healthy_and_redirects_are_not_followed() {
        assert_eq!(first_verdict(plan("http", answers("200 OK").await, false)).await, Verdict::Healthy);
        let port = answers("302 Found").await;
        let Verdict::NeverHealthy { cause, .. } = first_verdict(plan("http", port, false)).await else { panic!() };
        assert_eq!(cause, format!("Failed to make HTTP request to '/@x' on port {port}: received status code 302"));
    }

    #[tokio::test]
    async fn a_running_instance_is_told_when_it_fails_its_check() {
        assert!(matches!(first_verdict(plan("port", 1, true)).await, Verdict::Unhealthy { .. }));
        assert_eq!(first_verdict(plan("process", 1, false)).await, Verdict::Healthy);
    }
}
