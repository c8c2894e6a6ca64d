"""The literature, each entry once: authors, year, title, place."""

ABRAMOWITZ_1964 = (
    "M. Abramowitz, I. A. Stegun (1964). Handbook of Mathematical Functions. National Bureau "
    "of Standards."
)
BARRON_2017 = (
    "J. T. Barron (2017). Continuously Differentiable Exponential Linear Units. arXiv:1704.07483."
)
BARRON_2021 = (
    "J. T. Barron (2021). Squareplus: A Softplus-Like Algebraic Rectifier. arXiv:2112.11687."
)
BERGSTRA_2009 = (
    "J. Bergstra, G. Desjardins, P. Lamblin, Y. Bengio (2009). Quadratic Polynomials Learn "
    "Better Image Features. Technical report 1337, Université de Montréal."
)
BRADSHAW_2017 = (
    "J. Bradshaw, A. G. de G. Matthews, Z. Ghahramani (2017). Adversarial Examples, "
    "Uncertainty, and Transfer Testing Robustness in Gaussian Process Hybrid Deep Networks. "
    "arXiv:1707.02476."
)
BROOMHEAD_1988 = (
    "D. S. Broomhead, D. Lowe (1988). Multivariable Functional Interpolation and Adaptive "
    "Networks. Complex Systems 2."
)
CARLILE_2017 = (
    "B. Carlile, G. Delamarter, P. Kinney, A. Marti, B. Whitney (2017). Improving Deep "
    "Learning by Inverse Square Root Linear Units (ISRLUs). arXiv:1710.09967."
)
CHO_2009 = "Y. Cho, L. K. Saul (2009). Kernel Methods for Deep Learning. NeurIPS."
CLEVERT_2016 = (
    "D.-A. Clevert, T. Unterthiner, S. Hochreiter (2016). Fast and Accurate Deep Network "
    "Learning by Exponential Linear Units (ELUs). ICLR."
)
COLLOBERT_2004 = (
    "R. Collobert (2004). Large Scale Machine Learning. PhD thesis, Université Paris VI."
)
DONOHO_1994 = (
    "D. L. Donoho, I. M. Johnstone (1994). Ideal Spatial Adaptation by Wavelet Shrinkage. "
    "Biometrika 81(3)."
)
DONOHO_1995 = (
    "D. L. Donoho (1995). De-noising by soft-thresholding. IEEE Transactions on Information "
    "Theory 41(3)."
)
DUGAS_2001 = (
    "C. Dugas, Y. Bengio, F. Bélisle, C. Nadeau, R. Garcia (2001). Incorporating Second-Order"
    " Functional Knowledge for Better Option Pricing. NeurIPS."
)
DU_2018 = (
    "S. Du, J. Lee (2018). On the Power of Over-parametrization in Neural Networks with "
    "Quadratic Activation. ICML."
)
ELFWING_2018 = (
    "S. Elfwing, E. Uchibe, K. Doya (2018). Sigmoid-weighted linear units for neural network "
    "function approximation in reinforcement learning. Neural Networks 107."
)
GLOROT_2010 = (
    "X. Glorot, Y. Bengio (2010). Understanding the difficulty of training deep feedforward "
    "neural networks. AISTATS."
)
GREEN_1990 = (
    "P. J. Green (1990). Bayesian Reconstructions from Emission Tomography Data Using a "
    "Modified EM Algorithm. IEEE Transactions on Medical Imaging 9(1)."
)
HENDRYCKS_2016 = (
    "D. Hendrycks, K. Gimpel (2016). Gaussian Error Linear Units (GELUs). arXiv:1606.08415."
)
HE_2015 = "K. He, X. Zhang, S. Ren, J. Sun (2015). Delving Deep into Rectifiers. ICCV."
HOWARD_2019 = "A. Howard, M. Sandler, G. Chu et al. (2019). Searching for MobileNetV3. ICCV."
JOHNSON_1994 = (
    "N. L. Johnson, S. Kotz, N. Balakrishnan (1994). Continuous Univariate Distributions, "
    "volume 1. Wiley."
)
KLAMBAUER_2017 = (
    "G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter (2017). Self-Normalizing Neural "
    "Networks. NeurIPS."
)
KRIZHEVSKY_2010 = (
    "A. Krizhevsky (2010). Convolutional Deep Belief Networks on CIFAR-10. Technical report."
)
MAAS_2013 = (
    "A. L. Maas, A. Y. Hannun, A. Y. Ng (2013). Rectifier Nonlinearities Improve Neural "
    "Network Acoustic Models. ICML workshop."
)
MARTINS_2016 = "A. F. T. Martins, R. F. Astudillo (2016). From Softmax to Sparsemax. ICML."
MISRA_2020 = "D. Misra (2020). Mish: A Self Regularized Non-Monotonic Activation Function. BMVC."
NAG_2023 = (
    "S. Nag, M. Bhattacharyya, A. Mukherjee, R. Kundu (2023). SERF: Towards better training "
    "of deep neural networks using log-Softplus ERror activation Function. WACV."
)
NOEL_2021 = (
    "M. M. Noel, A. L, A. Trivedi, P. Dutta (2021). Growing Cosine Unit: A Novel Oscillatory "
    "Activation Function. arXiv:2108.12943."
)
OWEN_1980 = "D. B. Owen (1980). A Table of Normal Integrals. Communications in Statistics B9(4)."
RAHIMI_2007 = (
    "A. Rahimi, B. Recht (2007). Random Features for Large-Scale Kernel Machines. NeurIPS."
)
RAMACHANDRAN_2017 = (
    "P. Ramachandran, B. Zoph, Q. V. Le (2017). Searching for Activation Functions. "
    "arXiv:1710.05941."
)
ROY_2019 = (
    "S. K. Roy, S. Manna, S. R. Dubey, B. B. Chaudhuri (2019). LiSHT: Non-Parametric Linearly"
    " Scaled Hyperbolic Tangent Activation Function for Neural Networks. arXiv:1901.05894."
)
SITZMANN_2020 = (
    "V. Sitzmann, J. N. P. Martel, A. W. Bergman, D. B. Lindell, G. Wetzstein (2020). "
    "Implicit Neural Representations with Periodic Activation Functions. NeurIPS."
)
SO_2021 = (
    "D. R. So, W. Mańke, H. Liu, Z. Dai, N. Shazeer, Q. V. Le (2021). Primer: Searching for "
    "Efficient Transformers for Language Modeling. NeurIPS."
)
STEIN_1981 = (
    "C. M. Stein (1981). Estimation of the Mean of a Multivariate Normal Distribution. Annals"
    " of Statistics 9(6)."
)
TREFETHEN_2014 = (
    "L. N. Trefethen, J. A. C. Weideman (2014). The Exponentially Convergent Trapezoidal "
    "Rule. SIAM Review 56(3), 385-458."
)
WILLIAMS_1997 = "C. K. I. Williams (1997). Computing with Infinite Networks. NeurIPS."
YU_2022 = (
    "W. Yu, C. Si, P. Zhou, M. Luo, Y. Zhou, J. Feng, S. Yan, X. Wang (2022). MetaFormer Baselines "
    "for Vision. arXiv:2210.13452."
)
ZIYIN_2020 = (
    "L. Ziyin, T. Hartwig, M. Ueda (2020). Neural Networks Fail to Learn Periodic Functions "
    "and How to Fix It. NeurIPS."
)
LECUN_1998 = (
    "Y. LeCun, L. Bottou, G. B. Orr, K.-R. Müller (1998). Efficient BackProp. Neural Networks: "
    "Tricks of the Trade, Springer."
)
STEWART_1980 = (
    "G. W. Stewart (1980). The Efficient Generation of Random Orthogonal Matrices with an "
    "Application to Condition Estimators. SIAM Journal on Numerical Analysis 17(3)."
)
MEZZADRI_2007 = (
    "F. Mezzadri (2007). How to Generate Random Matrices from the Classical Compact Groups. "
    "Notices of the AMS 54(5)."
)
PRICE_1958 = (
    "R. Price (1958). A Useful Theorem for Nonlinear Devices Having Gaussian Inputs. "
    "IRE Transactions on Information Theory 4(2)."
)
DANIELY_2016 = (
    "A. Daniely, R. Frostig, Y. Singer (2016). Toward Deeper Understanding of Neural Networks: "
    "The Power of Initialization and a Dual View on Expressivity. NeurIPS."
)
POOLE_2016 = (
    "B. Poole, S. Lahiri, M. Raghu, J. Sohl-Dickstein, S. Ganguli (2016). Exponential "
    "Expressivity in Deep Neural Networks through Transient Chaos. NeurIPS."
)
SCHOENHOLZ_2017 = (
    "S. S. Schoenholz, J. Gilmer, S. Ganguli, J. Sohl-Dickstein (2017). Deep Information "
    "Propagation. ICLR."
)
ROBERTS_2022 = (
    "D. A. Roberts, S. Yaida, B. Hanin (2022). The Principles of Deep Learning Theory. "
    "Cambridge University Press."
)
HAYOU_2021 = (
    "S. Hayou, E. Clerico, B. He, G. Deligiannidis, A. Doucet, J. Rousseau (2021). Stable "
    "ResNet. AISTATS."
)
ZHANG_2019 = (
    "H. Zhang, Y. N. Dauphin, T. Ma (2019). Fixup Initialization: Residual Learning Without "
    "Normalization. ICLR."
)
YANG_2021 = (
    "G. Yang, E. J. Hu (2021). Tensor Programs IV: Feature Learning in Infinite-Width Neural "
    "Networks. ICML."
)
YANG_2022 = (
    "G. Yang, E. J. Hu, I. Babuschkin, S. Sidor, X. Liu, D. Farhi, N. Ryder, J. Pachocki, W. Chen, "
    "J. Gao (2022). Tensor Programs V: Tuning Large Neural Networks via Zero-Shot Hyperparameter "
    "Transfer. arXiv:2203.03466."
)
BORDELON_2023 = (
    "B. Bordelon, L. Noci, M. B. Li, B. Hanin, C. Pehlevan (2023). Depthwise Hyperparameter "
    "Transfer in Residual Networks: Dynamics and Scaling Limit. arXiv:2309.16620."
)
YANG_2023_DEPTH = (
    "G. Yang, D. Yu, C. Zhu, S. Hayou (2023). Tensor Programs VI: Feature Learning in "
    "Infinite-Depth Neural Networks. arXiv:2310.02244."
)
YANG_2023 = (
    "G. Yang, J. B. Simon, J. Bernstein (2023). A Spectral Condition for Feature Learning. "
    "arXiv:2310.17813."
)
BROCK_2021 = (
    "A. Brock, S. De, S. L. Smith (2021). Characterizing signal propagation to close the "
    "performance gap in unnormalized ResNets. ICLR."
)
COWSIK_2024 = (
    "A. Cowsik, T. Nebabu, X.-L. Qi, S. Ganguli (2024). Geometric Dynamics of Signal Propagation "
    "Predict Trainability of Transformers. arXiv:2403.02579."
)
