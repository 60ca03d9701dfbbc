/* paths.h - what the two units of the program share. The header's implementation is one of its own,
 * as in most programs: so no count depends on what the compiler inlines into the paths. */
#ifndef BUDGET_PATHS_H
#define BUDGET_PATHS_H

extern unsigned long long budget_rmws, budget_stores; /* counted so far, if they are */

_Noreturn void budget_die(const char *what);

#define MUST(condition) ((condition) ? (void)0 : budget_die(#condition))

void park_unpark(unsigned n);

#endif /* BUDGET_PATHS_H */
