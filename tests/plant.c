/* SPDX-License-Identifier: MIT */
/*
 * Ways to die in a known line. Each function stands on one line, so that this line is the one that a backtrace has to
 * name. Built without sanitizers, which would end it their own way.
 */
#include "plant.h"
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static volatile int zero, one = 1;
static volatile uintptr_t bad_address = 16;
static void (*volatile no_function)(void);

/* The write behind the call keeps it from being the last thing that the function does, which would leave no frame. */
#define PLANT(name, ...) \
	__attribute__((noinline)) static void name(void) { __VA_ARGS__; one = 2; } enum { name##_line = __LINE__ }

static volatile char *past_the_end(void)
{
	return mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, memfd_create("short", 0), 0);
}

PLANT(plant_segv, *(volatile int *)bad_address = 1);
PLANT(plant_abrt, if (one) abort());
PLANT(plant_fpe, zero = one / zero);
PLANT(plant_bus, volatile char *at = past_the_end(); *at = 1);
PLANT(plant_ill, if (one) __builtin_trap());
PLANT(plant_stack, volatile char frame[512]; frame[one] = 1; if (one) plant_stack(); zero = frame[one]);
PLANT(plant_null_call, no_function());

static void (*const plants[])(void) = { plant_segv, plant_abrt, plant_fpe, plant_bus, plant_ill, plant_stack, plant_null_call };

const struct plant_facts plant_facts[] = {
	{ "plant_segv", plant_segv_line }, { "plant_abrt", plant_abrt_line }, { "plant_fpe", plant_fpe_line },
	{ "plant_bus", plant_bus_line }, { "plant_ill", plant_ill_line }, { "plant_stack", plant_stack_line },
	{ "plant_null_call", plant_null_call_line }
};

int task_plant(pp_task *task, const void *data, size_t size)
{
	int which;

	if (size != sizeof which)
		return pp_raise(task, 22, "bad argument");
	memcpy(&which, data, sizeof which);
	plants[which]();
	return pp_raise(task, 1, "still alive after %d", which);
}

static void *thread(void *which)
{
	plants[*(const int *)which]();
	return NULL;
}

int task_plant_in_thread(pp_task *task, const void *data, size_t size)
{
	pthread_t id;
	int which;

	if (size != sizeof which)
		return pp_raise(task, 22, "bad argument");
	memcpy(&which, data, sizeof which);
	if (pthread_create(&id, NULL, thread, &which) != 0)
		return pp_raise(task, 11, "no thread");
	pthread_join(id, NULL);
	return pp_raise(task, 1, "still alive after %d", which);
}

int task_kill_itself(pp_task *task, const void *data, size_t size)
{
	int signal;

	if (size != sizeof signal)
		return pp_raise(task, 22, "bad argument");
	memcpy(&signal, data, sizeof signal);
	kill(getpid(), signal);
	return pp_raise(task, 1, "still alive after %d", signal);
}
