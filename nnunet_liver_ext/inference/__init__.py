"""How a study becomes masks; every step is one module.

    load_model.py        a model's folder or zip -> Model (model.py)
    native_grids.py      images -> the common grid -> class probabilities there -> each image's grid
    ensemble.py          several models: the mean of their probabilities on each image's grid
    organ.py             the organ mask that tumour models need, found by another model
    study_prediction.py  all of that for one study, in memory: `load_model`, `predict_study`
    predict.py           the same for many studies, with files

Beside that way: `pair_deformation.py` with `registors.py` (how image 1 is moved onto image 2),
`split_joint_maps.py` (joint maps of nnUNetv2_predict), `prediction_json.py` (what a folder's masks
are of).
"""
