"""Runs modules of Python's own test suite and prints how many tests there were."""

import io
import signal
import sys
import unittest

import test.support

NOT_OURS = {
    # Fails on any Python whose site packages import `threading` when it starts.
    "test_import_from_another_thread",
    # Waits five minutes, on any allocator, if a thread took a task before it is ended.
    "WithThreadsTestPool.test_terminate",
}


def tests(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from tests(item)
        else:
            name = item._testMethodName
            if name not in NOT_OURS and f"{type(item).__name__}.{name}" not in NOT_OURS:
                yield item


def main(name):
    test.support.verbose = False
    # A shell starts background jobs with SIGINT ignored, and then Python does not set this
    # handler, which its tests expect.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if name == "multiprocessing":
        import test._test_multiprocessing as module

        here = sys.modules["__main__"].__dict__
        module.install_tests_in_module_dict(here, "fork")
        loader = unittest.TestLoader()
        loader.testNamePatterns = [
            f"*{part}*" for part in ("Pool", "Queue", "Heap", "Lock", "Array", "Pipe", "Connection")
        ]
        found = loader.loadTestsFromModule(sys.modules["__main__"])
    else:
        found = unittest.defaultTestLoader.loadTestsFromName(f"test.{name}")
    suite = unittest.TestSuite(tests(found))
    report = io.StringIO()
    result = unittest.TextTestRunner(stream=report).run(suite)
    print(f"{name}: {result.testsRun} tests, {len(result.skipped)} skipped")
    if not result.wasSuccessful() or result.testsRun == 0:
        sys.exit(report.getvalue())


if __name__ == "__main__":
    main(sys.argv[1])
