"""Train an encoder of your own beside the PointNet of the paper: own_encoder.py SET [EPOCHS]."""

import sys

import torch
from torch import Tensor, nn

import facedis_core.nn as fd
from facedis_core import load_face_set


class OwnEncoder(nn.Module):
    def __init__(self, vertices: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * vertices, 4 * 16)

    def forward(self, faces: Tensor) -> fd.Posterior:
        a, b, c, d = self.layer(faces.flatten(1)).chunk(4, dim=1)
        return fd.Posterior(fd.Gaussian(a, b), fd.Gaussian(c, d))


face_set = load_face_set(sys.argv[1])
mean = torch.from_numpy(face_set.mean_face(face_set.rows("train")))
batches = torch.utils.data.DataLoader(face_set.torch_dataset(pairs=True), 8, shuffle=True)
for encoder in (OwnEncoder(len(mean)), fd.PointNetEncoder(fd.PointNetConfig(len(mean), 16, 16))):
    decoders = nn.ModuleList([fd.HiddenLayerDecoder(16, 256, len(mean)) for _ in range(2)])
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoders.parameters()], lr=1e-3)
    for _ in range(int([*sys.argv, "20"][2])):
        for batch in batches:
            faces, partners = (batch.face - mean) / 100, (batch.partner - mean) / 100
            z, others = encoder(faces), encoder(partners)
            x_id, x_exp = decoders[0](z.identity.sample()), decoders[1](z.expression.sample())
            loss = 5000 * fd.reconstruction_loss(x_id + x_exp, faces)  # the terms of eq. 8
            loss += 3e-5 * (fd.kl_divergence(*z.identity) + fd.kl_divergence(*z.expression))
            loss += fd.partner_latent_loss(z.identity.mean, others.identity.mean)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    print(f"{type(encoder).__name__}: loss {loss.item():.3f}")
