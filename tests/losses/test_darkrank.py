"""DarkRank against its formula, written out."""

import torch

from limbeck.losses import darkrank


def test_it_is_the_likelihood_of_the_teachers_order():
    s, t = (
        torch.randn(7, d, generator=torch.Generator().manual_seed(d), dtype=torch.float64) for d in (3, 5)
    )
    total = 0.0
    for i in range(7):
        order = sorted((j for j in range(7) if j != i), key=lambda j: (t[i] - t[j]).norm().item())[:4]
        scores = torch.stack([-3 * (s[i] - s[j]).norm() ** 3 for j in order])
        total += sum(scores[m:].logsumexp(0) - scores[m] for m in range(4))
    torch.testing.assert_close(darkrank(s, t), total / 7)
    assert torch.autograd.gradcheck(lambda x: darkrank(x, t), s.requires_grad_())
    assert darkrank(s[:2], t[:2]) == darkrank(s[:1], t[:1]) == darkrank(s[:0], t[:0]) == 0
    assert darkrank(300 * s.float(), t.float()).isfinite()
