"""What becomes of runs whose process died."""

from dataclasses import replace

from job_server.execution.losses import Losses, Next, after_loss


def test_losses_lead_from_company_to_alone_to_failure() -> None:
    """Second run in company, each further one alone, and the end after two alone."""
    losses, decisions = Losses(), []
    alone = False
    while Next.FAIL not in decisions:
        losses = losses.after(alone=alone)
        decisions.append(after_loss(losses, alone_from_start=False, at_most_once=False))
        alone = decisions[-1] is Next.ALONE
    assert decisions == [Next.IN_COMPANY, Next.ALONE, Next.ALONE, Next.FAIL]
    assert after_loss(Losses(1, 0), alone_from_start=False, at_most_once=True) is Next.FAIL
    assert after_loss(replace(losses, alone=1), alone_from_start=True, at_most_once=False) is Next.ALONE


def test_each_loss_is_counted_where_it_happened() -> None:
    """Alone or in company; the message of the failure names both."""
    losses = Losses().after(alone=False).after(alone=False).after(alone=True)
    assert losses == Losses(in_company=2, alone=1)
