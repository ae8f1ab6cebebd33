/* Training steps of a network with one hidden layer, ReLU, softmax and cross-entropy, by plain gradient descent, for input
   that is mostly zeros: what somebody would write in C for this network alone, and what fastbp's steps are measured beside.

   Two threads share the features: each has its rows of W1, forward, where it makes a part of every sum, and in the update.
   They meet twice a step. Numbers that are not 0 are pairs of a byte's column within a block and its code, as in fastbp.

   Compiled with -D of FEATURES, HIDDEN, CLASSES, BATCH, and BLOCK, the columns of a block; see plain_c.py. */
#define _GNU_SOURCE
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif
#define ROUND_UP(n, step) (((n) + (step) - 1) / (step) * (step))
#define WIDE ROUND_UP(HIDDEN, LANES) /* numbers of a row of W1, in whole vectors */
#define VECTORS (WIDE / LANES)
#define OUT ROUND_UP(CLASSES, LANES)
#define BLOCKS ((FEATURES + BLOCK - 1) / BLOCK)

typedef float vec __attribute__((vector_size(4 * LANES), aligned(4)));

typedef struct {
    const uint16_t *entries; /* column in the lower byte, code in the upper one */
    const int32_t *starts;   /* where block b of row r begins: starts[r * BLOCKS + b] */
    const float *numbers;    /* of each code */
    const int64_t *labels, *batches;
    int32_t steps, threads;
    float rate;
    float *W1, *b1, *W2, *b2; /* rows of WIDE and of OUT numbers */
    double *losses;
} Work;

static float parts[2][BATCH * WIDE], hidden[BATCH * WIDE], deltas[BATCH * WIDE], scores[BATCH * OUT];
static double summed[2][16];
static _Atomic int arrived, gone;

static void meet(int threads, int *meetings) {
    int expected = ++*meetings;
    if (threads == 1) return;
    if (atomic_fetch_add(&arrived, 1) + 1 == threads * expected)
        atomic_store_explicit(&gone, expected, memory_order_release);
    while (atomic_load_explicit(&gone, memory_order_acquire) < expected) {
    }
}

/* z (BATCH, WIDE) = (bias or 0) + the blocks from `first` to `end` of the rows @ W1. */
static void multiply(const Work *work, const int64_t *rows, float *z, const float *bias, int first, int end) {
    for (int r = 0; r < BATCH; r++)
        for (int j = 0; j < WIDE; j++) z[r * WIDE + j] = bias ? bias[j] : 0;
    for (int b = first; b < end; b++) {
        const float *block = work->W1 + (size_t)b * BLOCK * WIDE;
        for (int r = 0; r < BATCH; r++) {
            const int32_t *bounds = work->starts + rows[r] * BLOCKS + b;
            vec sum[VECTORS];
            for (int k = 0; k < VECTORS; k++) sum[k] = *(vec *)(z + r * WIDE + k * LANES);
            for (int i = bounds[0]; i < bounds[1]; i++) {
                uint16_t entry = work->entries[i];
                float number = work->numbers[entry >> 8];
                const float *w = block + (entry & 255) * WIDE;
                for (int k = 0; k < VECTORS; k++) sum[k] += number * *(const vec *)(w + k * LANES);
            }
            for (int k = 0; k < VECTORS; k++) *(vec *)(z + r * WIDE + k * LANES) = sum[k];
        }
    }
}

/* W1 += the blocks from `first` to `end` of the rows, transposed, @ deltas, which have the rate in them. */
static void update_first(const Work *work, const int64_t *rows, int first, int end) {
    for (int b = first; b < end; b++) {
        float *block = work->W1 + (size_t)b * BLOCK * WIDE;
        for (int r = 0; r < BATCH; r++) {
            const int32_t *bounds = work->starts + rows[r] * BLOCKS + b;
            vec delta[VECTORS];
            for (int k = 0; k < VECTORS; k++) delta[k] = *(vec *)(deltas + r * WIDE + k * LANES);
            for (int i = bounds[0]; i < bounds[1]; i++) {
                uint16_t entry = work->entries[i];
                float number = work->numbers[entry >> 8];
                float *w = block + (entry & 255) * WIDE;
                for (int k = 0; k < VECTORS; k++) *(vec *)(w + k * LANES) += number * delta[k];
            }
        }
    }
}

/* What is between the sums of the first layer and its deltas, for a row; returns its loss. */
static double differentiate(const Work *work, int r, int label) {
    float *h = hidden + r * WIDE, *y = scores + r * OUT, *delta = deltas + r * WIDE, largest, total = 0;
    vec score[OUT / LANES];
    for (int j = 0; j < WIDE; j++) {
        float z = parts[0][r * WIDE + j] + (work->threads > 1 ? parts[1][r * WIDE + j] : 0);
        h[j] = z > 0 ? z : 0;
    }
    for (int k = 0; k < OUT / LANES; k++) score[k] = *(vec *)(work->b2 + k * LANES);
    for (int j = 0; j < HIDDEN; j++)
        for (int k = 0; k < OUT / LANES; k++) score[k] += h[j] * *(vec *)(work->W2 + j * OUT + k * LANES);
    memcpy(y, score, sizeof score);
    largest = y[0];
    for (int c = 1; c < CLASSES; c++) largest = y[c] > largest ? y[c] : largest;
    for (int c = 0; c < CLASSES; c++) total += y[c] = expf(y[c] - largest);
    double loss = -logf(y[label] / total + 1e-7f);
    for (int c = 0; c < OUT; c++) y[c] = c < CLASSES ? (y[c] / total - (c == label)) / BATCH : 0;
    for (int j = 0; j < WIDE; j++) {
        float sum = 0;
        for (int c = 0; c < OUT; c++) sum += j < HIDDEN ? y[c] * work->W2[j * OUT + c] : 0;
        delta[j] = h[j] > 0 ? -work->rate * sum : 0;
    }
    return loss;
}

/* b1, and W2 and b2, which are small: the first thread and the last make them. */
static void update_biases(const Work *work) {
    for (int r = 0; r < BATCH; r++)
        for (int j = 0; j < WIDE; j++) work->b1[j] += deltas[r * WIDE + j];
}

static void update_second(const Work *work) {
    for (int j = 0; j < HIDDEN; j++) {
        vec sum[OUT / LANES];
        for (int k = 0; k < OUT / LANES; k++) sum[k] = *(vec *)(work->W2 + j * OUT + k * LANES);
        for (int r = 0; r < BATCH; r++)
            for (int k = 0; k < OUT / LANES; k++)
                sum[k] += -work->rate * hidden[r * WIDE + j] * *(vec *)(scores + r * OUT + k * LANES);
        for (int k = 0; k < OUT / LANES; k++) *(vec *)(work->W2 + j * OUT + k * LANES) = sum[k];
    }
    for (int r = 0; r < BATCH; r++)
        for (int c = 0; c < OUT; c++) work->b2[c] -= work->rate * scores[r * OUT + c];
}

static void train(const Work *work, int thread) {
    int threads = work->threads, meetings = 0;
    int first = BLOCKS * thread / threads, end = BLOCKS * (thread + 1) / threads;
    for (int step = 0; step < work->steps; step++) {
        const int64_t *rows = work->batches + (size_t)step * BATCH;
        multiply(work, rows, parts[thread], thread ? 0 : work->b1, first, end);
        meet(threads, &meetings);
        double loss = 0;
        for (int r = BATCH * thread / threads; r < BATCH * (thread + 1) / threads; r++)
            loss += differentiate(work, r, (int)work->labels[rows[r]]);
        summed[thread][0] = loss;
        meet(threads, &meetings);
        update_first(work, rows, first, end);
        if (thread == 0) update_biases(work);
        if (thread == threads - 1) update_second(work);
        if (thread == 0) work->losses[step] = (summed[0][0] + (threads > 1 ? summed[1][0] : 0)) / BATCH;
    }
    meet(threads, &meetings);
}

static void *second(void *work) {
    train(work, 1);
    return 0;
}

/* Rows of parameters are padded with zeros to a multiple of this. */
int lanes(void) { return LANES; }

/* 0, or 1 where the second thread could not be started. */
int train_steps(Work *work) {
    pthread_t other;
    atomic_store(&arrived, 0);
    atomic_store(&gone, 0);
    if (work->threads > 1 && pthread_create(&other, 0, second, work)) return 1;
    train(work, 0);
    if (work->threads > 1) pthread_join(other, 0);
    return 0;
}
