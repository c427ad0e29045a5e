"""Stripe's own library as a client of the sandbox.

`official.py shop URL KEY` goes through a life of payments and prints what it saw as JSON.
`official.py verify` reads one JSON document from standard input: deliveries as they came, which
it checks as Stripe's library does, and a body, for which it prints a signature of its own.
"""

import json
import sys
import urllib.parse
import urllib.request

import stripe


def refused(kind, call, *args, **kwargs):
    """The error that a call must end with."""
    try:
        call(*args, **kwargs)
    except kind as error:
        return error
    raise AssertionError(f"this should have been refused with {kind.__name__}")


class Shop:
    def __init__(self, url, key):
        self.url = url.rstrip("/")
        self.v1 = stripe.StripeClient(
            key, base_addresses={"api": self.url}, max_network_retries=0
        ).v1

    def door(self, path, body):
        """The control door."""
        request = urllib.request.Request(
            f"{self.url}/sandbox/{path}",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def wallet(self, method):
        customer = self.v1.customers.create(
            {"name": "Acme", "email": "billing@acme.example", "metadata": {"tenant": "t1"}}
        )
        attached = self.v1.payment_methods.attach(method, {"customer": customer.id})
        self.v1.customers.update(
            customer.id, {"invoice_settings": {"default_payment_method": attached.id}}
        )
        return customer.id, attached.id

    def charge(self, wallet, invoice, key, amount=4900, currency="eur"):
        customer, method = wallet
        return self.v1.payment_intents.create(
            {
                "amount": amount,
                "currency": currency,
                "customer": customer,
                "payment_method": method,
                "off_session": True,
                "confirm": True,
                "metadata": {"invoice": invoice},
                "expand": ["latest_charge"],
            },
            {"idempotency_key": key},
        )


def pays_and_refunds(shop, seen):
    wallet = shop.wallet("pm_card_visa")
    customer = shop.v1.customers.retrieve(
        wallet[0], {"expand": ["invoice_settings.default_payment_method"]}
    )
    assert customer.invoice_settings.default_payment_method.card.last4 == "4242"
    paid = shop.charge(wallet, "in_paid", "paid")
    assert paid.status == "succeeded" and paid.latest_charge.paid
    again = shop.charge(wallet, "in_paid", "paid")
    assert again.id == paid.id
    assert again.last_response.headers["idempotent-replayed"] == "true"
    other = refused(stripe.IdempotencyError, shop.charge, wallet, "in_other", "paid")
    assert other.http_status == 400

    part = shop.v1.refunds.create({"payment_intent": paid.id, "amount": 1900})
    assert part.status == "succeeded" and part.charge == paid.latest_charge.id
    much = refused(
        stripe.InvalidRequestError,
        shop.v1.refunds.create,
        {"payment_intent": paid.id, "amount": 3001},
    )
    assert much.param == "amount" and much.http_status == 400
    shop.v1.refunds.create({"payment_intent": paid.id})
    full = refused(
        stripe.InvalidRequestError, shop.v1.refunds.create, {"payment_intent": paid.id}
    )
    assert full.code == "charge_already_refunded"
    assert shop.v1.charges.retrieve(paid.latest_charge.id).refunded
    seen["customer"] = wallet[0]


def declines(shop, seen):
    seen["declines"] = {}
    for method in (
        "pm_card_chargeCustomerFail",
        "pm_sandbox_lost_card",
        "pm_sandbox_expired_card",
        "pm_sandbox_generic_decline__do_not_try_again",
        "pm_sandbox_insufficient_funds__none",
        "pm_card_authenticationRequired",
    ):
        wallet = shop.wallet(method)
        error = refused(stripe.CardError, shop.charge, wallet, method, method)
        assert error.http_status == 402
        intent = error.error.payment_intent
        assert intent.status == "requires_payment_method"
        outcome = shop.v1.charges.retrieve(intent.latest_charge).outcome
        # Stripe leaves the field out when there is no advice.
        advice = getattr(error.error, "advice_code", None)
        assert getattr(outcome, "advice_code", None) == advice
        seen["declines"][method] = [error.code, error.error.decline_code, advice]


def confirms(shop):
    customer, method = shop.wallet("pm_card_authenticationRequired")
    back = "https://t.example/back"
    for outcome, status in (("complete", "succeeded"), ("fail", "requires_payment_method")):
        intent = shop.v1.payment_intents.create(
            {
                "amount": 4900,
                "currency": "eur",
                "customer": customer,
                "payment_method": method,
                "confirm": True,
                "return_url": back,
            }
        )
        assert intent.status == "requires_action"
        page = urllib.parse.urlsplit(intent.next_action.redirect_to_url.url)
        form = dict(urllib.parse.parse_qsl(page.query), outcome=outcome)
        opener = urllib.request.build_opener(NoRedirect())
        answer = opener.open(
            urllib.parse.urlunsplit(page._replace(query="")),
            data=urllib.parse.urlencode(form).encode(),
        )
        assert answer.status == 303
        assert answer.headers["location"].startswith(back + "?payment_intent=" + intent.id)
        assert shop.v1.payment_intents.retrieve(intent.id).status == status


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def http_error_303(self, request, answer, code, message, headers):
        return answer


def disputes(shop, seen):
    wallet = shop.wallet("pm_card_createDispute")
    paid = shop.charge(wallet, "in_disputed", "disputed")
    (dispute,) = shop.v1.disputes.list({"payment_intent": paid.id}).data
    assert dispute.status == "needs_response" and dispute.amount == 4900
    won = shop.v1.disputes.update(
        dispute.id, {"evidence": {"uncategorized_text": "winning_evidence"}}
    )
    assert won.status == "won" and len(won.balance_transactions) == 2
    closed = refused(stripe.InvalidRequestError, shop.v1.disputes.close, dispute.id)
    assert closed.http_status == 400
    moved = shop.v1.balance_transactions.list({"source": dispute.id})
    assert sorted(one.net for one in moved.data) == [-4900, 4900]
    seen["disputed_customer"] = wallet[0]


def debits(shop):
    clock = shop.v1.test_helpers.test_clocks.create({"frozen_time": 1_800_000_000})
    customer = shop.v1.customers.create({"test_clock": clock.id}).id
    made = shop.v1.payment_methods.create(
        {
            "type": "sepa_debit",
            "sepa_debit": {"iban": "DE89370400440532013000"},
            "billing_details": {"name": "Acme", "email": "billing@acme.example"},
        }
    )
    method = shop.v1.payment_methods.attach(made.id, {"customer": customer})
    sent = shop.charge((customer, method.id), "in_debit", "debit")
    assert sent.status == "processing" and sent.latest_charge.status == "pending"
    moved = shop.v1.test_helpers.test_clocks.advance(
        clock.id, {"frozen_time": 1_800_000_000 + 5 * 86_400}
    )
    assert moved.frozen_time == 1_800_432_000
    assert shop.v1.payment_intents.retrieve(sent.id).status == "succeeded"


def pages(shop, seen):
    """The same events both ways, by pages of three."""
    everything = list(shop.v1.events.list({"limit": 3}).auto_paging_iter())
    ids = [event.id for event in everything]
    assert len(ids) > 30 and len(set(ids)) == len(ids)
    created = [event.created for event in everything]
    assert created == sorted(created, reverse=True)
    newer = shop.v1.events.list({"limit": 3, "ending_before": ids[-1]})
    back = [event.id for event in newer.auto_paging_iter()]
    assert back == list(reversed(ids[:-1])), "backwards from the oldest"
    charges = list(shop.v1.events.list({"type": "charge.*", "limit": 2}).auto_paging_iter())
    wanted = [event.id for event in everything if event.type.startswith("charge.")]
    assert [event.id for event in charges] == wanted
    two = ["refund.created", "charge.dispute.created"]
    found = shop.v1.events.list({"types": two, "limit": 100}).data
    assert {event.type for event in found} == set(two)
    later = shop.v1.events.list({"created": {"gt": created[0]}})
    assert later.data == []
    assert shop.v1.events.list({"created": {"gte": created[-1]}, "limit": 1}).has_more
    assert shop.v1.events.retrieve(ids[0]).id == ids[0]
    seen["events"] = len(ids)


def faults(shop):
    wallet = shop.wallet("pm_card_visa")
    shop.door(
        "failures",
        {"kind": "rate_limit", "retry_after_seconds": 7, "should_retry": False},
    )
    error = refused(stripe.RateLimitError, shop.charge, wallet, "in_fault", "fault")
    assert error.http_status == 429 and error.headers["retry-after"] == "7"
    assert error.headers["stripe-should-retry"] == "false"
    shop.door("failures", {"kind": "error_before", "status": 503})
    error = refused(stripe.APIError, shop.charge, wallet, "in_fault", "fault")
    assert error.http_status == 503
    shop.door("failures", {"kind": "drop_after"})
    refused(stripe.APIConnectionError, shop.charge, wallet, "in_fault", "fault")
    paid = shop.charge(wallet, "in_fault", "fault")
    assert paid.status == "succeeded"
    assert paid.last_response.headers["idempotent-replayed"] == "true"
    # The library's own retries: a cut connection and a 500 in a row are survived.
    patient = stripe.StripeClient(
        "sk_test_suite", base_addresses={"api": shop.url}, max_network_retries=2
    )
    shop.door("failures", {"kind": "drop_after", "path": "/v1/refunds"})
    shop.door("failures", {"kind": "error_before", "path": "/v1/refunds"})
    refund = patient.v1.refunds.create({"payment_intent": paid.id, "amount": 100})
    assert shop.v1.refunds.list({"payment_intent": paid.id}).data == [refund]


def go_shopping(url, key):
    shop, seen = Shop(url, key), {"version": stripe.VERSION}
    pays_and_refunds(shop, seen)
    declines(shop, seen)
    confirms(shop)
    disputes(shop, seen)
    debits(shop)
    faults(shop)
    pages(shop, seen)
    print(json.dumps(seen))


def verify():
    asked = json.load(sys.stdin)
    for heard in asked["heard"]:
        for secret in asked["secrets"]:
            event = stripe.Webhook.construct_event(
                heard["body"], heard["signature"], secret
            )
            assert event.object == "event" and event.data.object.object
        refused(
            stripe.SignatureVerificationError,
            stripe.WebhookSignature.verify_header,
            heard["body"] + " ",
            heard["signature"],
            asked["secrets"][0],
        )
    signature = stripe.WebhookSignature.generate_signature_header(
        asked["body"], asked["secrets"][0]
    )
    print(json.dumps({"verified": len(asked["heard"]), "signature": signature}))


if __name__ == "__main__":
    if sys.argv[1] == "verify":
        verify()
    else:
        go_shopping(sys.argv[2], sys.argv[3])
