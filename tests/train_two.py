"""What each process of the test with two processes runs: a few steps of three stages; it writes down the weights it ends with."""

import dataclasses
import json
import sys
from pathlib import Path

from safetensors.torch import save_file

from test_train_stages import OPPOSE, REBUILD
from trainset import RUN, TINY, make_codec
from unitoken.train import adversarial, parallel, rebuild
from unitoken.train.examples import ExampleMaker
from unitoken.train.features import FeatureCache
from unitoken.train.pitch import PitchCache
from unitoken.train.pool import Pool
from unitoken.train.reconstruction import Reconstructor
from unitoken.train.refine import RefineSettings, train_refine
from unitoken.train.run import Clock, WeightAverage
from unitoken.train.semantic import LessonMaker
from unitoken.train.semantic_tokens import SemanticTokens


def weights(module):
    return {key: value.detach().clone() for key, value in module.state_dict().items()}


def main(pool, semantic, pitch, features, out):
    parallel.start()
    opened = Pool(pool)
    tokens, tracked = SemanticTokens(semantic, opened, TINY.hop_s), PitchCache(pitch, opened)
    maker = ExampleMaker(opened, opened.utterances, tokens, tracked, TINY, REBUILD, None, 0)
    run, taken, modules = dataclasses.replace(RUN, cooldown=1.0, minutes=0.2), [], []
    Clock.over = lambda self, number: len(taken) >= 4
    update = WeightAverage.update

    def count(self, module):
        taken.append(1)
        modules.append(module)
        update(self, module)

    WeightAverage.update = count
    seen, forward = [], Reconstructor.forward

    def watched(self, example, generator):
        seen.append([example.samples.tolist(), float(example.clean.abs().sum()), generator.initial_seed()])
        return forward(self, example, generator)

    Reconstructor.forward = watched
    codec = make_codec()
    refined = RefineSettings(run, batch=4, seconds=0.5, still=1)
    train_refine(codec, LessonMaker(opened, opened.utterances, FeatureCache(features, opened), out / "0", TINY, refined))
    save_file(weights(modules[-1]), out / f"refine-{parallel.rank()}.safetensors")
    taken.clear()
    if parallel.rank() == 0:
        save_file({f"student.{key}": value for key, value in weights(codec).items()}, out / "refine-start.safetensors")
        save_file({f"codec.{key}": value for key, value in weights(codec).items()}, out / "reconstruction-start.safetensors")
    rebuild.train_reconstruction(codec, maker, out / "1", REBUILD, run)
    save_file(weights(modules[-1]), out / f"reconstruction-{parallel.rank()}.safetensors")
    if parallel.rank() == 0:
        save_file({f"codec.{key}": value for key, value in weights(codec).items()}, out / "adversarial-start.safetensors")
    taken.clear()
    adversarial.train_adversarial(codec, maker, out / "2", OPPOSE, run)
    ended = {key.removeprefix("rebuilder."): value for key, value in weights(modules[-1]).items()}
    (out / f"seen-{parallel.rank()}.json").write_text(json.dumps([part for draw in seen for part in (draw[:2], draw[2])]), encoding="utf-8")
    save_file(ended, out / f"adversarial-{parallel.rank()}.safetensors")


if __name__ == "__main__":
    main(*sys.argv[1:5], Path(sys.argv[5]))
