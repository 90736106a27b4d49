#pragma once
#include <cstdint>
#include <vector>

#include "sentinel/stats/interval.hpp"

/// Estimation from strata: a population of known parts, weights W_h = N_h/N exact, each sampled for
/// itself; unit is the trial. References: Cochran, Sampling Techniques, ch. 5 (Neyman allocation,
/// Satterthwaite's degrees of freedom); Donner & Zou 2002 (MOVER).
namespace sentinel {

/// Mean sum W_h mean_h with variance V = sum v_h, v_h = W_h^2 s_h^2/n_h, t quantile at
/// Satterthwaite's degrees of freedom V^2 / sum v_h^2/(n_h - 1); cut to [low, high], the range of
/// the observations. With n_h < 2 in a stratum of positive weight all of it.
///
/// A stratum without spread may hide outcomes that were not met; s_h = 0 would say that it cannot
/// (simulated coverage 0.61 to 0.87 instead of 0.95 with 200 to 500 trials where three of six
/// strata seldom fail). There s_h^2 is that of an outcome at the far end of the range with
/// probability p = (1/2)/(n_h + 1), the one smoothed_spread plans with: p (1 - p) max(high -
/// mean_h, mean_h - low)^2, which falls as 1/n_h and is soon nothing beside the others.
///
/// Without spread in every stratum the rule of three of t_interval for all of them together: other
/// outcomes of probabilities q_h stay unseen with probability prod (1 - q_h)^n_h <=
/// exp(-sum n_h q_h), so with this confidence sum n_h q_h <= -ln(1 - confidence); the ends are the
/// farthest that any such q_h <= 1 can move the mean. No error need be shared out, as the bound is
/// one on all q_h together; with one stratum, or n_h in proportion to W_h, it is t_interval's.
Interval stratified_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                             double confidence, double low, double high);

/// The same mean of losses, of which few trials of a stratum may have nearly all. On either side
/// s_h^2 of every stratum grows by that of one more outcome at that end of the range: p (1 - p)
/// (end - mean_h)^2 with p = 1/(n_h + 1). So a stratum may hide such a loss whether its trials lose
/// nothing or a little each. Where many trials lose much it adds nearly nothing. Coverage of both:
/// docs/methods.md, tests/unit/stats_losses_test.cpp.
Interval guarded_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                          double confidence, double low, double high);

/// s^2 of a stratum with trials or, without spread, what stands in for it above.
double floored_variance(const Moments& moments, double low, double high);

/// The same estimate of a share (observations in [0, 1]) with the conservative interval of MOVER:
/// Wilson's interval [l_h, u_h] per stratum with n = number of trials, then
/// theta - sqrt(sum W_h^2 (p_h - l_h)^2), theta + sqrt(sum W_h^2 (u_h - p_h)^2). Conservative
/// because trials count as if all their images failed or none; where they do and fewer than some
/// ten failures were met, Wilson's own coverage shows (0.92 simulated). [0, 1] with n_h = 0 in a
/// stratum of positive weight.
Interval mover_interval(const std::vector<double>& weights, const std::vector<Moments>& strata,
                        double confidence);

/// Mean sum W_h e_h of independent estimates e_h in [low, high], each with an interval of the same
/// confidence, joined by MOVER as above. It is no narrower than a part that is nearly all of the
/// population. Of a part without trials (n = 0) the interval says that it may be anything in the
/// range, and the estimate leaves it out. Bug without parts.
Interval mover_mean(const std::vector<double>& weights, const std::vector<Interval>& parts,
                    double low, double high);

/// How many of n trials each stratum gets: in proportion to 0.8 W_h S_h/sqrt(c_h) + 0.2 W_h, each
/// term normalised to sum 1 (the first is left out where all S_h are 0), at least `minimum` each;
/// sums to n exactly (largest remainders, ties to the lower index). Strata below the minimum are
/// raised to it, the others share the rest in proportion. Costs are relative, above 0. Bug where n
/// < minimum * strata.
std::vector<std::uint64_t> allocate(std::uint64_t n, const std::vector<double>& weights,
                                    const std::vector<double>& spreads,
                                    const std::vector<double>& costs, std::uint64_t minimum);

/// The fewest trials by stratum, about (within 2 %), for which mover_interval would have this half
/// width if the strata went on to show these shares: none less than `least` or 1, and no more once
/// they are `most` together. Greedy: ever to the stratum whose next trials narrow it most.
std::vector<std::uint64_t> allocate_for(double half_width, double confidence,
                                        const std::vector<double>& weights,
                                        const std::vector<double>& shares,
                                        const std::vector<std::uint64_t>& least,
                                        std::uint64_t most);

/// Probabilities of drawing each stratum in a sequential plan: 0.2 W_h + 0.8 W_h S_h / sum W S; so
/// W_h/q_h <= 5. With all S_h = 0: W_h.
std::vector<double> draw_probabilities(const std::vector<double>& weights,
                                       const std::vector<double>& spreads);

/// Spread that a stratum of shares is planned with: sqrt(p (1 - p)), p = (sum + 1/2)/(n + 1).
double smoothed_spread(const Moments& shares);
/// The same for observations around zero (losses of accuracy): sqrt((sum of squares + 1/4)/(n +
/// 1)), the root mean square, which is what inverse-probability weighting pays for.
double smoothed_size(const Moments& losses);

}  // namespace sentinel
