"""Small networks that learned addition, addition modulo 7 and a Boolean function: no key, so that only honesty counts.

net, inputs = trained("addition"), task("addition").inputs
discover(net, inputs)
"""

from .networks import TASKS, Task, task, trained

__all__ = ["TASKS", "Task", "task", "trained"]
