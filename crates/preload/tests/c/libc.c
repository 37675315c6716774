// Memory that the C library allocates and the program frees, and the other way
// round.

#include "case.h"

#include <dirent.h>
#include <glob.h>
#include <locale.h>
#include <netdb.h>
#include <regex.h>
#include <search.h>
#include <unistd.h>
#include <wchar.h>

CASE(getline_grows_the_programs_block) {
    FILE *file = tmpfile();
    CHECK(file != NULL);
    for (int i = 0; i < 300; i++)
        fprintf(file, "%0*d\n", i * 40 + 1, i);
    rewind(file);
    size_t room = 1;
    char *line = malloc(room);
    for (int i = 0; i < 300; i++)
        CHECK(getline(&line, &room, file) == i * 40 + 2);
    CHECK(getline(&line, &room, file) == -1);
    free(line);
    fclose(file);
}

CASE(asprintf_gives_a_block_to_free) {
    for (int width = 1; width < 200000; width = width * 3 + 1) {
        char *text = NULL;
        CHECK(asprintf(&text, "%*d", width, 7) == width);
        CHECK((int)strlen(text) == width);
        free(text);
    }
}

CASE(strdup_gives_a_block_to_free) {
    char *one = strdup("one"), *two = strndup("two and more", 3);
    wchar_t *wide = wcsdup(L"wide");
    CHECK(strcmp(one, "one") == 0 && strcmp(two, "two") == 0 && wcscmp(wide, L"wide") == 0);
    one = realloc(one, 100000);
    CHECK(strcmp(one, "one") == 0);
    free(one);
    free(two);
    free(wide);
}

CASE(realpath_gives_a_block_to_free) {
    char *path = realpath("/proc/self/../../usr/../usr", NULL);
    CHECK(path != NULL && strcmp(path, "/usr") == 0);
    free(path);
    char *here = getcwd(NULL, 0);
    CHECK(here != NULL);
    free(here);
}

CASE(open_memstream_gives_a_block_to_free) {
    char *text = NULL;
    size_t length = 0;
    FILE *stream = open_memstream(&text, &length);
    for (int i = 0; i < 100000; i++)
        fprintf(stream, "%d ", i);
    CHECK(fclose(stream) == 0 && strlen(text) == length);
    free(text);
}

static int all_but_dots(const struct dirent *entry) {
    return entry->d_name[0] != '.';
}

CASE(scandir_gives_blocks_to_free) {
    struct dirent **entries = NULL;
    int count = scandir("/usr", &entries, all_but_dots, alphasort);
    CHECK(count > 3);
    for (int i = 0; i < count; i++)
        free(entries[i]);
    free(entries);
}

static int by_address(const void *one, const void *other) {
    return one < other ? -1 : one > other;
}

static void keep(void *unused) {
    (void)unused;
}

CASE(the_librarys_own_structures_come_and_go) {
    glob_t found;
    CHECK(glob("/usr/*", 0, NULL, &found) == 0 && found.gl_pathc > 3);
    globfree(&found);
    regex_t expression;
    CHECK(regcomp(&expression, "^(a|b)*c[0-9]{2,5}$", REG_EXTENDED) == 0);
    CHECK(regexec(&expression, "ababc123", 0, NULL, 0) == 0);
    regfree(&expression);
    CHECK(setlocale(LC_ALL, "C.UTF-8") != NULL);
    struct addrinfo *addresses = NULL, hints = {.ai_flags = AI_NUMERICHOST};
    CHECK(getaddrinfo("127.0.0.1", "80", &hints, &addresses) == 0);
    freeaddrinfo(addresses);
    void *tree = NULL;
    for (uintptr_t i = 0; i < 1000; i++)
        CHECK(tsearch((void *)(i * 7919 % 1000 + 1), &tree, by_address) != NULL);
    tdestroy(tree, keep);
}

CASE(setenv_and_clearenv_keep_working) {
    for (int i = 0; i < 500; i++) {
        char name[32], value[200];
        snprintf(name, sizeof name, "VARIABLE_%d", i % 50);
        memset(value, 'v', sizeof value);
        value[i % 199 + 1] = 0;
        CHECK(setenv(name, value, 1) == 0);
        CHECK(strcmp(getenv(name), value) == 0);
    }
    CHECK(clearenv() == 0);
    CHECK(setenv("A", "b", 1) == 0 && strcmp(getenv("A"), "b") == 0);
}

CASE(streams_with_buffers_of_their_own_come_and_go) {
    for (int i = 0; i < 2000; i++) {
        FILE *file = fopen("/proc/self/stat", "r");
        CHECK(file != NULL);
        char text[4096];
        CHECK(fgets(text, sizeof text, file) != NULL);
        CHECK(fclose(file) == 0);
    }
}
