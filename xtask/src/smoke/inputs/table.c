#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELD(n) struct { char *name_##n; uint64_t value_##n[n + 1]; }
#define FIELDS FIELD(1) f1; FIELD(2) f2; FIELD(3) f3; FIELD(4) f4; FIELD(5) f5; FIELD(6) f6; FIELD(7) f7;
struct record { FIELDS struct record *next; };

#define FUNCTION(n)                                                                             \
    static uint64_t step_##n(struct record *record, uint64_t seed) {                            \
        for (int i = 0; i <= n; i++) record->f##n.value_##n[i] = seed = seed * 6364136223846793005u + n; \
        record->f##n.name_##n = malloc(seed >> 57);                                             \
        if (record->f##n.name_##n) memset(record->f##n.name_##n, n, seed >> 57);                \
        return seed;                                                                            \
    }
FUNCTION(1) FUNCTION(2) FUNCTION(3) FUNCTION(4) FUNCTION(5) FUNCTION(6) FUNCTION(7)

int main(void) {
    struct record *all = NULL;
    uint64_t seed = 1;
    for (int i = 0; i < 50000; i++) {
        struct record *record = calloc(1, sizeof *record);
        if (!record) return 1;
        seed = step_7(record, step_6(record, step_5(record, step_4(record, step_3(record, step_2(record, step_1(record, seed)))))));
        record->next = all;
        all = record;
    }
    uint64_t sum = 0;
    while (all) {
        struct record *next = all->next;
        sum = sum * 31 + all->f7.value_7[3];
        free(all->f1.name_1); free(all->f2.name_2); free(all->f3.name_3); free(all->f4.name_4);
        free(all->f5.name_5); free(all->f6.name_6); free(all->f7.name_7); free(all);
        all = next;
    }
    printf("%llu\n", (unsigned long long)sum);
    return 0;
}
