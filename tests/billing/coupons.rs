//! Coupons: for how long they hold, and what they leave of a price that changes within a period.

use tenure_client::{ChangeSubscription, ChangeTax, InvoiceStatus, NewSubscription, TaxRate, When};

use super::{arrived, change, charged, key, money, pause, plan, resume, subscribe, subscribed, to};
use crate::support::app::{TestApp, for_a_story};

#[tokio::test(flavor = "multi_thread")]
async fn coupons_hold_for_their_periods_and_taxes_are_added_or_held() {
    let app = TestApp::new().await;
    let customer = arrived(&app, "pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let tax = TaxRate {
        name: "VAT".to_owned(),
        percent: "19".parse().unwrap(),
        inclusive: false,
    };
    let asked = ChangeTax {
        tax: Some(tax.clone()),
        reason: Some("it is due".to_owned()),
        dry_run: false,
    };
    app.client.change_tax(tenant, &asked, &key()).await.unwrap();
    let new = NewSubscription {
        coupon: Some("welcome-20".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribe(customer, new).await;
    customer.advance("95d").await;
    let totals: Vec<String> = customer
        .invoices()
        .await
        .iter()
        .map(|one| {
            format!(
                "{} {} {}",
                one.discount.amount, one.tax.amount, one.total.amount
            )
        })
        .collect();
    let discounted = "9.80 7.45 46.65";
    assert_eq!(
        totals,
        [discounted, discounted, discounted, "0.00 9.31 58.31"]
    );
    let shown = customer.invoices().await.remove(0);
    let shown = app.client.invoice(tenant, shown.invoice_id).await.unwrap();
    assert_eq!(shown.tax_rate, Some(tax));
    assert_eq!(shown.priced_hash.unwrap().len(), 64);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_amount_comes_off_a_period_once_whatever_is_added_in_it() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        coupon: Some("five-off".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    customer.advance("15d").await;
    let more = ChangeSubscription {
        seats: Some(7),
        ..ChangeSubscription::default()
    };
    // Two seats for 15 of 30 days: the plan has the 5.00 already.
    let told = change(&customer, &more).await;
    assert_eq!(told.total, money("9.00 EUR"));
    assert_eq!(customer.invoices().await[0].total, money("44.00 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_does_not_outlive_its_periods_by_pauses() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        coupon: Some("five-off".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    customer.advance("29d").await;
    pause(&customer, When::Now).await;
    // Within the period it still holds.
    resume(&customer, When::Now).await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(last.discount, money("0.16 EUR"), "1.63 less 0.17 is 1.47");
    pause(&customer, When::Now).await;
    customer.advance("1d").await;
    resume(&customer, When::Now).await;
    let last = customer.invoices().await.pop().unwrap();
    assert_eq!(
        (last.discount, last.total),
        (money("0.00 EUR"), money("49.00 EUR"))
    );
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_for_months_does_not_hold_for_years() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        coupon: Some("welcome-20".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    let first = customer.invoices().await.remove(0);
    assert_eq!(first.total, money("39.20 EUR"));
    let told = change(&customer, &to("team-yearly", When::PeriodEnd)).await;
    assert_eq!(told.total, money("490.00 EUR"), "two months are no year");
    customer.advance("31d").await;
    let year = customer.invoices().await.remove(1);
    assert_eq!(year.total, money("490.00 EUR"));
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_coupon_is_redeemed_in_its_currencies_and_may_leave_nothing_to_pay() {
    let app = TestApp::new().await;
    let catalog = serde_json::json!({"coupons": {
        "dollars": {"name": "Dollars", "off": {"amount": {"USD": "5.00"}}, "duration": "once"},
        "free": {"name": "Free", "off": {"percent": "100"}, "duration": "once"},
    }});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
    let customer = arrived(&app, "pm_card_visa").await;
    let tenant = customer.tenant.tenant_id;
    let with = |coupon: &str| NewSubscription {
        coupon: Some(coupon.to_owned()),
        ..plan("team-monthly")
    };
    let refused = app.client.subscribe(tenant, &with("dollars"), &key()).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.status(), Some(422), "{refused}");
    assert!(refused.to_string().contains("USD"), "{refused}");
    let customer = subscribe(customer, with("free")).await;
    let first = customer.invoices().await.remove(0);
    assert_eq!(
        (first.total, first.status, first.attempts),
        (money("0.00 EUR"), InvoiceStatus::Paid, 0)
    );
    assert_eq!(charged(&app, &customer), 0);
    customer.advance("30d").await;
    assert_eq!(charged(&app, &customer), 4900);
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_on_one_day_costs_nothing_with_an_amount_off() {
    let app = TestApp::new().await;
    let new = NewSubscription {
        coupon: Some("five-off".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    customer.advance("20d").await;
    let up = change(&customer, &to("scale-monthly", When::Now)).await;
    assert_eq!(up.credits[0].total, money("14.67 EUR"));
    let down = change(&customer, &to("team-monthly", When::Now)).await;
    assert_eq!(down.total, money("14.67 EUR"));
    let paid = charged(&app, &customer);
    let credit = app.client.credit(customer.tenant.tenant_id).await.unwrap();
    let left: i64 = (credit.balances[0].amount * rust_decimal::Decimal::ONE_HUNDRED)
        .try_into()
        .unwrap();
    assert_eq!(paid - left, 4400, "{credit:?}");
    app.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn up_and_down_costs_nothing_where_a_coupon_leaves_next_to_nothing() {
    let app = TestApp::new().await;
    let catalog = serde_json::json!({"coupons": {
        "almost": {"name": "Almost", "off": {"amount": {"EUR": "48.99"}}, "duration": "forever"},
    }});
    let publish = for_a_story();
    let published = app.client.publish_catalog(&catalog, &publish, &key()).await;
    published.unwrap();
    let new = NewSubscription {
        coupon: Some("almost".to_owned()),
        ..plan("team-monthly")
    };
    let customer = subscribed(&app, "pm_card_visa", new).await;
    assert_eq!(customer.invoices().await[0].total, money("0.01 EUR"));
    customer.advance("20d").await;
    // A third of a cent: nothing is given back, and the line is over all the same.
    let up = change(&customer, &to("scale-monthly", When::Now)).await;
    assert!(up.credits.is_empty(), "{:?}", up.credits);
    customer.advance("0h").await;
    let down = change(&customer, &to("team-monthly", When::Now)).await;
    assert_eq!(down.credits.len(), 1, "{:?}", down.credits);
    assert_eq!(down.credits[0].total, up.total);
    assert_eq!(down.total, money("0.00 EUR"));
    app.finish().await;
}
