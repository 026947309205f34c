/* A step of Adam on latents of double wells, from the gradient in the weights to the weights of the next pass.

       g     <- c g,                        c = 1 where w g > 0, else `ahead` where |theta| < edge, else 0
       m     <- m + (1 - b1) (g - m),       v <- b2 v + (1 - b2) g^2
       theta <- clip( theta - rate m / (sqrt(v) / root + eps), -most, most )
       w     <- clip( (theta + lift sign theta) pull, -1, 1 )

   All of it is done while a value is at hand, since memory is what takes time. */

#include <math.h>
#include <stdint.h>

#define WORTH_THREADS (1 << 15)

static inline float clip(const float x, const float most)
{
    return x > most ? most : x < -most ? -most : x;
}

void wells(float *restrict theta, float *restrict w, const float *restrict grad, float *restrict m, float *restrict v,
           const int64_t count, const int threads,
           const float ahead, const float edge, const float lift, const float pull, const float most,
           const float b1, const float b2, const float rate, const float root, const float eps)
{
    #pragma omp parallel for simd num_threads(threads) if (count > WORTH_THREADS)
    for (int64_t i = 0; i < count; i++) {
        const float g = grad[i] * (w[i] * grad[i] > 0 ? 1 : fabsf(theta[i]) < edge ? ahead : 0);
        m[i] += (1 - b1) * (g - m[i]);
        v[i] = b2 * v[i] + (1 - b2) * g * g;
        theta[i] = clip(theta[i] - rate * m[i] / (sqrtf(v[i]) / root + eps), most);
        w[i] = clip((theta[i] + copysignf(lift, theta[i])) * pull, 1);
    }
}
