#include "common/table/net/module_load.h"

#include <dlfcn.h>

#include "common/base/mem.h"

const struct table_module *module_load(const struct table_load *in, const char *type, struct err *e)
{
    const char *dir = in->module_directory != NULL ? in->module_directory : POSTHOUSE_MODULEDIR;
    char *path = xasprintf("%s/%s.so", dir, type);
    void *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
    const struct table_module *m = handle != NULL ? dlsym(handle, TABLE_MODULE_SYMBOL) : NULL;
    if (m == NULL) {
        const char *why = dlerror();
        err_set(e, "%s tables need a module: %s", type, why != NULL ? why : path);
    } else if (m->abi != TABLE_MODULE_ABI || strcmp(m->type, type) != 0) {
        err_set(e, "%s is no %s module of this version", path, type);
        m = NULL;
    }
    if (m == NULL && in->is_unavailable != NULL)
        *in->is_unavailable = true;
    free(path);
    return m;
}

static const char *text_cb(void *arg, const char *name, const char *otherwise)
{
    return table_config_text(arg, name, otherwise);
}

struct module_settings module_settings_of(const struct table_config *c)
{
    return (struct module_settings){ .text = text_cb, .arg = (void *)(uintptr_t)c };
}
