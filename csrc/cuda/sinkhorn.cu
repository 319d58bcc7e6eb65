// Entropic optimal transport: the plan P = argmin <P, M> - eps H(P) with row sums a and column
// sums b, its potentials f = eps alpha, g = eps beta and its cost <P, M>, one problem per block.
//
// General problems: sinkhorn_general.cuh. Symmetric ones (M = M', a = b, so f = g) whose diagonal
// is the row minimum, with K_ij = exp(-M_ij / eps), 0 <= i, j < N:
//   x = sqrt(a / K 1);   repeat  t = K x,  x <- x^(1-w) (a / t)^w,  w = 1, 1/2, 2/3, 1, ...
// As cpu/sinkhorn_symmetric.h, which says why; a problem on which this fails goes on as a general
// one.
//
// Floors on an H200 (1.75 GHz), float, N = M = 173, any B up to its 132 processors. An iteration of
// either kind reads K once from shared memory, 173 x 176 x 4 bytes at 128 a clock: 951 clocks, 0.54
// us; its operations, 2 NM for a general one, take half of that, N M for a symmetric one a quarter.
// B = 8, 1000 iterations: 0.54 ms, beside which the start (2 NM exponentials, four passes over M),
// the plan, and 0.96 MB read and written at 4.3 TB/s (0.4 us) vanish. Symmetric, 9 iterations: 10
// products 5.4 us, NM exponentials of 14 instructions at 128 a clock 1.9 us, M read twice and P
// written once at 64 bytes a clock 3.2 us: about 10 us. Longer than shared memory: K comes from the
// L2 cache at half the rate, and twice per general iteration where it is wider than a panel.
#include "sinkhorn_general.cuh"

namespace rlsv_fast::cuda {
namespace {

// What a path reports: whether it holds a plan, after how many iterations, and how far off.
template <typename T>
struct Outcome {
  bool solved;
  int64_t steps;
  T error;  // of the plan, not yet relative
};

// x in y, x o (K x) in x_next, M_ii log2(e) / (2 eps) in u.
template <typename T, int kWarps, bool kResident>
struct Symmetric {
  static constexpr int kThreads = kWarps * int(kWarp);

  const Problem<T>& problem;
  Space<T, kWarps, kResident>& space;

  // (want / have)^w, 0 where nothing is wanted.
  __device__ __forceinline__ static T power(T want, T have, T w) {
    return want > T(0) ? power_of_two(logarithm(want / have) * w, Limits<T>::kLowest) : T(0);
  }

  // Builds the kernel and the first x. False where the path does not apply.
  __device__ __forceinline__ bool start() {
    const int size = problem.rows;
    const T scale = problem.scale();
    T *half = space.u, *x = space.y;
    bool applies = true;
    for (int i = threadIdx.x; i < size; i += kThreads)
      half[i] = T(-0.5) * scale * problem.cost[int64_t(i) * size + i];
    __syncthreads();
    each_group<kWarps>(size, [&](int first) {
      T* row = space.kernel.row(first);
      const int stride = space.kernel.stride, i = first + lane_index();
      const T sum = reduce_rows(problem.cost, first, size, size, T(0), [&](int k, int j, T cost) {
        const T exponent = cost * scale + (half[j] + half[first + k]);
        applies = applies && cost * T(0) == T(0) && exponent <= T(1);
        const T entry = power_of_two(exponent, Limits<T>::kLowest);
        row[int64_t(k) * stride + j] = entry;
        return entry;
      });
      if (lane_index() < kGroup && i < size) x[i] = power(problem.row[i], sum, T(0.5));
    });
    return __syncthreads_and(applies);
  }

  // x from the f to start from. At the solution a_i / (N sqrt(max a)) <= x_i <= sqrt(a_i): what is
  // given is brought there. -inf says nothing, NaN goes on.
  __device__ __forceinline__ void warm(const T* f) {
    T most = T(0);
    each<kWarps>(problem.rows, [&](int i) { most = Maximum{}(most, problem.row[i]); });
    most = block_reduce<kThreads>(most, space.narrow_slots(), Maximum{});
    const T unit = -problem.scale(), least = T(1) / (T(problem.rows) * std::sqrt(most));
    each<kWarps>(problem.rows, [&](int i) {
      const T given = f[i], a = problem.row[i], bottom = a * least, top = std::sqrt(a);
      const T level = given * unit - space.u[i], near = power_of_two(level, Limits<T>::kLowest);
      if (given == -T(INFINITY)) return;
      const T inside = near < bottom ? bottom : near > top ? top : near;
      space.y[i] = level == level ? inside : level;
    });
    __syncthreads();
  }

  // sum |x (K x) - a|, the error of the plan of x.
  __device__ __forceinline__ T measure() {
    T gap = T(0);
    bool nothing = false;
    multiply<kWarps>(space.kernel, space.y, [&](int i, T sum) {
      const T row = sum * space.y[i];
      space.x_next[i] = row;
      gap += std::abs(row - problem.row[i]);
    });
    return tally<kWarps>(gap, nothing, space.narrow_slots());
  }

  __device__ __forceinline__ void update(int step) {
    const T w = step % 3 == 0 ? T(1) : step % 3 == 1 ? T(1) / 2 : T(2) / 3;
    for (int i = threadIdx.x; i < problem.rows; i += kThreads)
      space.y[i] *= power(problem.row[i], space.x_next[i], w);
    __syncthreads();
  }
};

template <typename T, int kWarps, bool kResident>
__device__ __forceinline__ Outcome<T> solve_symmetric(const Problem<T>& problem,
                                                      Space<T, kWarps, kResident>& space,
                                                      double tolerance, int64_t max_iterations,
                                                      const T* initial) {
  const T enough = T(tolerance) * problem.mass, noise = T(Limits<T>::kNoise) * problem.mass;
  Symmetric<T, kWarps, kResident> path{problem, space};
  if (!path.start()) return {false, 0, T(0)};
  if (initial) path.warm(initial);
  T best = T(INFINITY);
  int since = 0;
#pragma unroll 1
  for (int step = 0;; ++step) {
    const T error = path.measure();
    if (error <= enough || step == max_iterations) return {error < T(INFINITY), step, error};
    since = error < best ? 0 : since + 1;
    best = error < best ? error : best;
    if (!(error < T(INFINITY)) || since >= kSymmetricPatience || step >= kSymmetricMost)
      return {error <= noise, step, error};
    path.update(step);
  }
}

// `f` and `g` are where potentials are kept on the way; f is where they start.
template <typename T, int kWarps, bool kResident>
__device__ __forceinline__ Outcome<T> solve_general(const Problem<T>& problem,
                                                    Space<T, kWarps, kResident>& space,
                                                    double tolerance, int64_t steps,
                                                    int64_t max_iterations, T* f, T* g) {
  const T enough = T(tolerance) * problem.mass, noise = T(Limits<T>::kNoise) * problem.mass;
  General<T, kWarps, kResident> path(problem, space);
  if (!path.start(f)) return {false, 0, T(0)};
  if (steps >= max_iterations) {
    path.stand(f);
    return {true, steps, path.error};
  }
  T best = T(INFINITY);
  bool absorb = true;
#pragma unroll 1
  for (int since = 0; since < kGeneralPatience || path.error > noise;) {
    if (!absorb && !path.iterate()) {
      path.write_potentials(T(1), f, g);
      absorb = true;
    }
    if (absorb) path.absorb(f, g);
    absorb = false;
    ++steps;
    if (path.error <= enough || steps == max_iterations) break;
    since = path.error < best ? 0 : since + 1;
    best = path.error < best ? path.error : best;
  }
  return {true, steps, path.error};
}

template <typename T, int kWarps, bool kResident>
__global__ void __launch_bounds__(kWarps* int(kWarp), 1)
    forward(Sinkhorn<T> in, SinkhornResult<T> out, T* workspace, int64_t numbers) {
  Space<T, kWarps, kResident> space = make_space<T, kWarps, kResident>(
      int(in.rows), int(in.columns), workspace + blockIdx.x * numbers);
  for (int64_t item = blockIdx.x; item < in.items; item += gridDim.x) {
    const Problem<T> problem = read_problem<kWarps>(in, item, space.slots);
    T *f = out.f + item * in.rows, *g = out.g + item * in.columns;
    Outcome<T> outcome{false, 0, T(0)};
    bool by_symmetry = false;
    if (problem.epsilon > T(0) && problem.mass > T(0)) {
      each<kWarps>(problem.rows,
                   [&](int i) { f[i] = in.initial ? in.initial[item * in.rows + i] : T(0); });
      if (in.symmetric) {
        outcome = solve_symmetric(problem, space, in.tolerance, in.max_iterations,
                                  in.initial ? f : nullptr);
        by_symmetry = outcome.solved;
      }
      if (!outcome.solved)
        outcome =
            solve_general(problem, space, in.tolerance, outcome.steps, in.max_iterations, f, g);
    }
    const int64_t size = in.rows * in.columns;
    T *plan = out.plan ? out.plan + item * size : nullptr, distance, error;
    if (outcome.solved) {
      const T to_cost = T(double(problem.epsilon) * kLn2);
      if (by_symmetry) {
        for (int i = threadIdx.x; i < in.rows; i += blockDim.x)
          f[i] = g[i] = to_cost * (space.u[i] + logarithm(space.y[i]));
      } else {
        General<T, kWarps, kResident>(problem, space).write_potentials(to_cost, f, g);
      }
      distance = write_plan(problem, space, by_symmetry ? space.y : space.x, space.y, plan);
      error = outcome.error / problem.mass;
    } else {  // without mass the plan is 0; anything else has no plan
      const bool empty = problem.epsilon > T(0) && problem.mass == T(0);
      const T potential = empty ? -T(INFINITY) : T(NAN);
      distance = error = empty ? T(0) : T(NAN);
      fill<kWarps>(f, in.rows, potential);
      fill<kWarps>(g, in.columns, potential);
      if (plan) fill<kWarps>(plan, size, distance);
    }
    if (threadIdx.x == 0) {
      out.distance[item] = distance;
      out.error[item] = error;
      out.iterations[item] = outcome.steps;
    }
  }
}

}  // namespace

cudaError_t sinkhorn_workspace(int64_t items, int64_t rows, int64_t columns, int64_t bytes,
                               int64_t& numbers) {
  Device device;
  const cudaError_t error = find_device(device);
  if (error != cudaSuccess) return error;
  const SinkhornGrid grid = space_grid(device, items, rows, columns, bytes);
  numbers = grid.grid.blocks * grid.workspace;
  return cudaSuccess;
}

template <typename T>
cudaError_t sinkhorn_forward(const Sinkhorn<T>& in, const SinkhornResult<T>& out, T* workspace,
                             cudaStream_t stream) {
  Device device;
  const cudaError_t error = find_device(device);
  if (error != cudaSuccess) return error;
  const SinkhornGrid grid = space_grid(device, in.items, in.rows, in.columns, sizeof(T));
  return launch(grid.resident ? forward<T, block_warps<T>(true), true>
                              : forward<T, block_warps<T>(false), false>,
                grid.grid, stream, in, out, workspace, grid.workspace);
}

#define RLSV_INSTANTIATE(T)                                                                  \
  template cudaError_t sinkhorn_forward<T>(const Sinkhorn<T>&, const SinkhornResult<T>&, T*, \
                                           cudaStream_t);
RLSV_INSTANTIATE(float)
RLSV_INSTANTIATE(double)
#undef RLSV_INSTANTIATE

}  // namespace rlsv_fast::cuda
