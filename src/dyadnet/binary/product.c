/* y[s][r] = sum over k of sign[r][k] x[s][k], where a byte of `bits` holds eight signs of a row.

   A byte picks its eight signs from a table, which are multiplied with eight inputs at once. A tile of rows and samples
   stays in registers: its inputs serve all of its rows, its signs all of its samples. */

#include <stdint.h>

#define ROWS 6
#define SAMPLES 2
#define WORTH_THREADS (1 << 17)

typedef float eight __attribute__((vector_size(32), aligned(4)));

/* `rows` and `samples` are constants wherever this is called, so that the loops over them vanish. */
static inline __attribute__((always_inline)) void
tile(const int rows, const int samples, const uint8_t *bits, const float *x, const eight *signs, float *y,
     const int64_t bytes, const int64_t outputs)
{
    eight sum[ROWS][SAMPLES] = {{{0}}};
    for (int64_t k = 0; k < bytes; k++) {
        eight in[SAMPLES];
        for (int s = 0; s < samples; s++)
            in[s] = *(const eight *)(x + 8 * (s * bytes + k));
        for (int r = 0; r < rows; r++) {
            const eight sign = signs[bits[r * bytes + k]];
            for (int s = 0; s < samples; s++)
                sum[r][s] += sign * in[s];
        }
    }
    for (int r = 0; r < rows; r++)
        for (int s = 0; s < samples; s++) {
            float total = 0;
            for (int j = 0; j < 8; j++)
                total += sum[r][s][j];
            y[s * outputs + r] = total;
        }
}

/* Rows of `bits` and of `x` have `bytes` and 8 `bytes` entries; what pads them is zero in `x`. */
void product(const uint8_t *bits, const float *x, const float *signs, float *y,
             int64_t bytes, int64_t outputs, int64_t batch, int threads)
{
    const eight *table = (const eight *)signs;
    #pragma omp parallel for num_threads(threads) if (bytes * outputs * batch > WORTH_THREADS)
    for (int64_t row = 0; row < outputs; row += ROWS) {
        const int64_t rows = outputs - row < ROWS ? outputs - row : ROWS;
        for (int64_t sample = 0; sample < batch; sample += SAMPLES) {
            const int64_t samples = batch - sample < SAMPLES ? batch - sample : SAMPLES;
            const uint8_t *weight = bits + row * bytes;
            const float *in = x + 8 * sample * bytes;
            float *out = y + sample * outputs + row;
            if (rows == ROWS && samples == SAMPLES)
                tile(ROWS, SAMPLES, weight, in, table, out, bytes, outputs);
            else if (rows == ROWS && samples == 1)
                tile(ROWS, 1, weight, in, table, out, bytes, outputs);
            else
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t s = 0; s < samples; s++)
                        tile(1, 1, weight + r * bytes, in + 8 * s * bytes, table, out + s * outputs + r, bytes,
                             outputs);
        }
    }
}
