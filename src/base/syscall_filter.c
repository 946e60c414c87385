#include "base/syscall_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/disk.h"

/* libseccomp knows all of these on every machine; those that it has not are negative there. */
static const int allowed[] = {
	/* files */
	SCMP_SYS(read),
	SCMP_SYS(readv),
	SCMP_SYS(pread64),
	SCMP_SYS(preadv),
	SCMP_SYS(preadv2),
	SCMP_SYS(write),
	SCMP_SYS(writev),
	SCMP_SYS(close),
	SCMP_SYS(dup),
	SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),
	SCMP_SYS(statx),
	SCMP_SYS(fstatfs),
	SCMP_SYS(lseek),
	SCMP_SYS(getdents64),
	SCMP_SYS(fadvise64),
	DISK_CACHESTAT,
	SCMP_SYS(flock),
	/* memory */
	SCMP_SYS(brk),
	SCMP_SYS(munmap),
	SCMP_SYS(mremap),
	SCMP_SYS(madvise),
	/* threads */
	SCMP_SYS(futex),
	SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),
	SCMP_SYS(membarrier),
	SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity),
	SCMP_SYS(getcpu),
	SCMP_SYS(gettid),
	SCMP_SYS(exit),
	SCMP_SYS(exit_group),
	/* signals */
	SCMP_SYS(rt_sigaction),
	SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),
	SCMP_SYS(sigaltstack),
	SCMP_SYS(restart_syscall),
	/* events and connections */
	SCMP_SYS(poll),
	SCMP_SYS(ppoll),
	SCMP_SYS(epoll_create1),
	SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_wait),
	SCMP_SYS(epoll_pwait),
	SCMP_SYS(eventfd2),
	SCMP_SYS(accept),
	SCMP_SYS(accept4),
	SCMP_SYS(sendmsg),
	SCMP_SYS(recvmsg),
	SCMP_SYS(sendto),
	SCMP_SYS(recvfrom),
	SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),
	/* time, chance, and who we are */
	SCMP_SYS(clock_gettime),
	SCMP_SYS(clock_getres),
	SCMP_SYS(clock_nanosleep),
	SCMP_SYS(nanosleep),
	SCMP_SYS(gettimeofday),
	SCMP_SYS(getrandom),
	SCMP_SYS(getpid),
	SCMP_SYS(getuid),
	SCMP_SYS(geteuid),
	SCMP_SYS(getgid),
	SCMP_SYS(getegid),
	SCMP_SYS(sysinfo),
	SCMP_SYS(uname),
};

/* No code of ours comes to one of these, on any path and in any library. */
static const int deadly[] = {
	/* other programs and processes */
	SCMP_SYS(execve),
	SCMP_SYS(execveat),
	SCMP_SYS(fork),
	SCMP_SYS(vfork),
	SCMP_SYS(kill),
	SCMP_SYS(ptrace),
	SCMP_SYS(process_vm_readv),
	SCMP_SYS(process_vm_writev),
	SCMP_SYS(pidfd_open),
	SCMP_SYS(pidfd_getfd),
	SCMP_SYS(pidfd_send_signal),
	SCMP_SYS(kcmp),
	/* the network */
	SCMP_SYS(socket),
	SCMP_SYS(connect),
	SCMP_SYS(bind),
	/* privileges and namespaces */
	SCMP_SYS(setuid),
	SCMP_SYS(setgid),
	SCMP_SYS(setreuid),
	SCMP_SYS(setregid),
	SCMP_SYS(setresuid),
	SCMP_SYS(setresgid),
	SCMP_SYS(setgroups),
	SCMP_SYS(capset),
	SCMP_SYS(unshare),
	SCMP_SYS(setns),
	SCMP_SYS(chroot),
	SCMP_SYS(pivot_root),
	SCMP_SYS(mount),
	SCMP_SYS(umount2),
	SCMP_SYS(open_tree),
	SCMP_SYS(move_mount),
	SCMP_SYS(fsopen),
	SCMP_SYS(fsmount),
	SCMP_SYS(mount_setattr),
	SCMP_SYS(open_by_handle_at),
	/* the kernel */
	SCMP_SYS(bpf),
	SCMP_SYS(perf_event_open),
	SCMP_SYS(userfaultfd),
	SCMP_SYS(io_uring_setup),
	SCMP_SYS(init_module),
	SCMP_SYS(finit_module),
	SCMP_SYS(delete_module),
	SCMP_SYS(kexec_load),
	SCMP_SYS(kexec_file_load),
	SCMP_SYS(keyctl),
	SCMP_SYS(add_key),
	SCMP_SYS(request_key),
	SCMP_SYS(modify_ldt),
	SCMP_SYS(reboot),
	SCMP_SYS(swapon),
	SCMP_SYS(swapoff),
};

/* Of fcntl: locks of the index, flags, seals. Not the ones that send signals to others. */
static const int fcntl_commands[] = {
	F_DUPFD_CLOEXEC, F_GETFD,     F_SETFD,     F_GETFL,     F_SETFL,
	F_GETLK,         F_SETLK,     F_SETLKW,    F_OFD_GETLK, F_OFD_SETLK,
	F_OFD_SETLKW,    F_GET_SEALS, F_ADD_SEALS,
};

static int allow(scmp_filter_ctx ctx, int call, struct scmp_arg_cmp condition)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 1, condition);
}

static int add_list(scmp_filter_ctx ctx, uint32_t action, const int *calls, size_t count)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < count; i++) {
		rc = seccomp_rule_add(ctx, action, calls[i], 0);
	}
	return rc;
}

/* Calls that are harmless with some arguments only. */
static int add_conditions(scmp_filter_ctx ctx)
{
	const scmp_datum_t thread = CLONE_VM | CLONE_THREAD;
	const struct {
		int call;
		struct scmp_arg_cmp condition;
	} conditions[] = {
		/* O_RDONLY can create and cut off files, too. */
		{SCMP_SYS(openat),
		 SCMP_A2(SCMP_CMP_MASKED_EQ, O_ACCMODE | O_CREAT | O_TRUNC, O_RDONLY)},
		{SCMP_SYS(mmap), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
		{SCMP_SYS(mprotect), SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0)},
		/* clone3 hides its flags from the filter: without it, the C library does this.
		 */
		{SCMP_SYS(clone), SCMP_A0(SCMP_CMP_MASKED_EQ, thread, thread)},
		{SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0)},
		{SCMP_SYS(prctl), SCMP_A0(SCMP_CMP_EQ, PR_SET_NAME, 0)},
		/* Asking for a limit of its own, not setting one. */
		{SCMP_SYS(prlimit64), SCMP_A2(SCMP_CMP_EQ, 0, 0)},
	};
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(conditions); i++) {
		rc = allow(ctx, conditions[i].call, conditions[i].condition);
	}
	for (size_t i = 0; rc == 0 && i < ARRAY_SIZE(fcntl_commands); i++) {
		rc = allow(ctx, SCMP_SYS(fcntl),
			   SCMP_A1(SCMP_CMP_EQ, (scmp_datum_t)fcntl_commands[i], 0));
	}
	return rc;
}

static int build(scmp_filter_ctx ctx, bool may_unlink)
{
	int rc = add_list(ctx, SCMP_ACT_ALLOW, allowed, ARRAY_SIZE(allowed));

	if (rc == 0) {
		rc = add_list(ctx, SCMP_ACT_KILL_PROCESS, deadly, ARRAY_SIZE(deadly));
	}
	if (rc == 0) {
		rc = add_conditions(ctx);
	}
	if (rc == 0 && may_unlink) {
		rc = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(unlinkat), 0);
	}
	/* One filter for all threads. */
	return rc ? rc : seccomp_attr_set(ctx, SCMP_FLTATR_CTL_TSYNC, 1);
}

int syscall_filter_install(bool may_unlink, struct error *err)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int rc = ctx ? build(ctx, may_unlink) : -ENOMEM;

	if (rc == 0) {
		rc = seccomp_load(ctx);
	}
	seccomp_release(ctx);
	return rc < 0 ? error_set_errno(err, -rc, "cannot filter system calls") : 0;
}
