//! marketplace

use super::with_guid;
use crate::{
    api::{Api, array, query, text},
    cli::Format,
    commands::place,
    ui::{self, say},
};
use serde_json::Value;

/// Which plans are asked for.
pub(super) struct Asked<'a> {
    pub(super) offering: Option<&'a str>,
    pub(super) broker: Option<&'a str>,
    pub(super) unavailable: bool,
}

pub(super) async fn show(api: &mut Api, asked: &Asked<'_>, no_plans: bool, format: Format) -> anyhow::Result<()> {
    let mut pairs =
        vec![("include", "service_offering"), ("fields[service_offering.service_broker]", "name,guid"), ("per_page", "5000")];
    if !asked.unavailable {
        pairs.push(("available", "true"));
    }
    // The marketplace is open to whoever has not logged in, too.
    let user = api.identity().ok().map(|who| who.name);
    let target = user.as_ref().and_then(|_| api.space().ok());
    pairs.extend(target.as_ref().map(|(_, space)| ("space_guids", space.guid.as_str())));
    pairs.extend(asked.offering.map(|name| ("service_offering_names", name)));
    pairs.extend(asked.broker.map(|name| ("service_broker_names", name)));
    let (plans, included) = api.list_with_included(&query("/v3/service_plans", &pairs)).await?;
    if format.json {
        ui::json(&Value::Array(plans));
        return Ok(());
    }
    let where_ = match (&target, &user) {
        (Some((org, space)), Some(user)) => format!(" in {}", place(org, space, user)),
        (None, Some(user)) => format!(" as {}", ui::name(user)),
        _ => String::new(),
    };
    match asked.offering {
        Some(name) => plans_of(name, &plans, &included, asked.unavailable, &where_),
        None => offerings(&plans, &included, no_plans, asked.broker, &where_),
    }
    Ok(())
}

fn broker_of<'a>(offering: &Value, included: &'a Value) -> &'a str {
    let guid = text(offering, "/relationships/service_broker/data/guid");
    with_guid(array(included, "/service_brokers"), guid).map(|broker| text(broker, "/name")).unwrap_or_default()
}

fn plans_in<'a>(plans: &'a [Value], offering: &'a Value) -> impl Iterator<Item = &'a Value> {
    plans.iter().filter(|plan| text(plan, "/relationships/service_offering/data/guid") == text(offering, "/guid"))
}

fn offerings(plans: &[Value], included: &Value, no_plans: bool, broker: Option<&str>, where_: &str) {
    let of = broker.map(|name| format!(" for service broker {}", ui::name(name))).unwrap_or_default();
    say!("Getting all service offerings from marketplace{where_}{of}...\n");
    let mut rows: Vec<Vec<String>> = array(included, "/service_offerings")
        .map(|offering| {
            let mut names: Vec<&str> = plans_in(plans, offering).map(|plan| text(plan, "/name")).collect();
            names.sort_unstable();
            let mut row = vec![text(offering, "/name").to_owned()];
            if !no_plans {
                row.push(names.join(", "));
            }
            row.extend([text(offering, "/description").to_owned(), broker_of(offering, included).to_owned()]);
            row
        })
        .collect();
    if rows.is_empty() {
        say!("No service offerings found.");
        return;
    }
    rows.sort();
    match no_plans {
        true => ui::table(&["offering", "description", "broker"], &rows),
        false => ui::table(&["offering", "plans", "description", "broker"], &rows),
    }
    say!("\nTIP: Use 'cf marketplace -e SERVICE_OFFERING' to view descriptions of individual plans of a given service offering.");
}

fn plans_of(name: &str, plans: &[Value], included: &Value, unavailable: bool, where_: &str) {
    say!("Getting service plan information for service offering {}{where_}...", ui::name(name));
    if plans.is_empty() {
        say!("\nNo service offerings found.");
        return;
    }
    for offering in array(included, "/service_offerings") {
        say!("\nbroker: {}", ui::harmless(broker_of(offering, included)));
        let mut rows: Vec<Vec<String>> = plans_in(plans, offering)
            .map(|plan| {
                let mut row = vec![
                    format!("   {}", text(plan, "/name")),
                    text(plan, "/description").to_owned(),
                    if plan["free"] == true { "free" } else { "paid" }.to_owned(),
                    costs(plan),
                ];
                if unavailable {
                    row.push(if plan["available"] == true { "yes" } else { "no" }.to_owned());
                }
                row
            })
            .collect();
        rows.sort();
        let headings = ["   plan", "description", "free or paid", "costs", "available"];
        ui::table(&headings[..if unavailable { 5 } else { 4 }], &rows);
    }
}

/// `USD 3.50/1 month`, several with commas between.
fn costs(plan: &Value) -> String {
    let one = |cost: &Value| {
        let amount = cost["amount"].as_f64().unwrap_or_default();
        format!("{} {amount:.2}/{}", text(cost, "/currency").to_uppercase(), text(cost, "/unit"))
    };
    array(plan, "/costs").map(one).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn costs_are_told_with_currency_and_unit() {
        let plan = json!({ "costs": [{ "amount": 3.5, "currency": "usd", "unit": "month" }, { "amount": 1, "currency": "EUR", "unit": "GB" }] });
        assert_eq!(costs(&plan), "USD 3.50/month, EUR 1.00/GB");
    }
}
