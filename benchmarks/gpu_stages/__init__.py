"""The stages of gpu.py, a module each.

Those whose length is known come first: what they leave of their time goes to the following ones.
"""

from gpu_stages.stage import OK, VERDICT, Row, Setting, Stage

STAGES = (
    Stage("di2in", "DI2IN alone and from file to file", 30, "gpu_stages.di2in:measure"),
    Stage(
        "similarity",
        "Relative similarity D_S, elastic",
        35,
        "gpu_stages.elastic_similarity:measure",
    ),
    Stage(
        "resume",
        "Trainings that are interrupted and continued",
        60,
        "gpu_stages.resume:measure",
    ),
    Stage(
        "precision",
        "Mixed precision and torch.compile beside float32",
        100,
        "gpu_stages.precision:measure",
    ),
    Stage(
        "prediction",
        "Pairs per minute beside nnUNetv2_predict",
        80,
        "gpu_stages.prediction:measure",
    ),
    Stage(
        "memory",
        "Memory of a training, foreseen and measured",
        85,
        "gpu_stages.training_memory:measure",
    ),
    Stage(
        "step-time",
        "Step times beside stock nnU-Net",
        145,
        "gpu_stages.step_times:measure",
    ),
)

__all__ = ["OK", "STAGES", "VERDICT", "Row", "Setting", "Stage"]
