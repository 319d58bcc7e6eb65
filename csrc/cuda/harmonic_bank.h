// Launchers of harmonic_bank: plain pointers, sizes and a stream. Formulas: the .cu files.
#pragma once

#include <cuda_runtime.h>

#include "../harmonic_bank_rules.h"
#include "harmonic_bank_grid.h"

namespace rlsv_fast::cuda {

template <typename T>
struct HarmonicBank {
  const T *f0, *amplitude, *initial;
  BankShape shape;
  bool closed;  // one amplitude per frame, else one per harmonic
};

// `pieces` holds batch x shape.pieces() of them.
template <typename T>
cudaError_t harmonic_bank_forward(const HarmonicBank<T>& in, BankPiece* pieces, T* signal,
                                  T* final_phase, cudaStream_t stream);

// `sums` holds as many as `pieces`, and `beyond` as much as the amplitudes where there is one per
// harmonic.
template <typename T>
struct HarmonicBankGradient {
  const T *grad, *grad_phase;
  BankPiece* pieces;
  BankSums* sums;
  T *beyond, *f0, *amplitude, *initial;
};

template <typename T>
cudaError_t harmonic_bank_backward(const HarmonicBank<T>& in, const HarmonicBankGradient<T>& out,
                                   cudaStream_t stream);

// The pieces, in order; and the phases in which they end, in radians, unless that is null.
template <typename T>
cudaError_t harmonic_bank_pieces(const HarmonicBank<T>& in, BankPiece* pieces, T* final_phase,
                                 cudaStream_t stream);

}  // namespace rlsv_fast::cuda
