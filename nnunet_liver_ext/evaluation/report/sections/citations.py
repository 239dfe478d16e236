"""Whom to cite for what, by the names that the paragraphs about methods use."""

CITATIONS = {
    "metrics_reloaded": (
        "Maier-Hein L, Reinke A, Godau P, et al. Metrics reloaded: recommendations for image"
        " analysis validation. Nat Methods 2024; 21: 195–212. doi 10.1038/s41592-023-02151-z"
    ),
    "surface_dice": (
        "Nikolov S, Blackwell S, Zverovitch A, et al. Deep learning to achieve clinically"
        " applicable segmentation of head and neck anatomy for radiotherapy. 2018, arXiv:1809.04430"
    ),
    "chaos": (
        "Kavur AE, Gezer NS, Barış M, et al. CHAOS challenge – combined (CT-MR) healthy abdominal"
        " organ segmentation. Med Image Anal 2021; 69: 101950. doi 10.1016/j.media.2020.101950"
    ),
    "bland_altman": (
        "Bland JM, Altman DG. Measuring agreement in method comparison studies. Stat Methods Med"
        " Res 1999; 8: 135–160."
    ),
    "fatty_liver": (
        "Szczepaniak LS, Nurenberg P, Leonard D, et al. Magnetic resonance spectroscopy to measure"
        " hepatic triglyceride content: prevalence of hepatic steatosis in the general population."
        " Am J Physiol Endocrinol Metab 2005; 288: E462–E468."
    ),
    "hansch": (
        "Hänsch A, Chlebus G, Meine H, et al. Improving automatic liver tumor segmentation in"
        " late-phase MRI using multi-model training and 3D convolutional neural networks. Sci Rep"
        " 2022; 12. doi 10.1038/s41598-022-16388-9"
    ),
    "similarity": (
        "Couteaux V, Trintignac M, Nempont O, et al. Cooperating networks to enforce a similarity"
        " constraint in paired but unregistered multimodal liver segmentation. 2021."
    ),
    "strategies": (
        "Couteaux V, et al. Comparing deep learning strategies for paired but unregistered "
        "multimodal segmentation of the liver in T1 and T2-weighted MRI. 2021, arXiv:2101.06979"
    ),
    "outliers": (
        "Iglewicz B, Hoaglin DC. How to detect and handle outliers. ASQC Quality Press, Milwaukee"
        " 1993."
    ),
    "bootstrap": (
        "Hesterberg TC. What teachers should know about the bootstrap. Am Stat 2015; 69: 371–386."
    ),
    "wilcoxon": (
        "Wilcoxon F. Individual comparisons by ranking methods. Biometrics Bull 1945; 1: 80–83."
    ),
    "adjusted": (
        "Benjamini Y, Hochberg Y. Controlling the false discovery rate. J R Stat Soc B 1995; 57:"
        " 289–300."
    ),
    "rank_biserial": (
        "Kerby DS. The simple difference formula: an approach to teaching nonparametric"
        " correlation. Compr Psychol 2014; 3."
    ),
    "ranking": (
        "Wiesenfarth M, Reinke A, Landman BA, et al. Methods and open-source toolkit for analyzing"
        " and visualizing challenge results. Sci Rep 2021; 11: 2369."
    ),
}
