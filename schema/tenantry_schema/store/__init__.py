"""The statements on the shipped schema, as factories of works.

Every function here checks its arguments at once, makes what ids it needs, and returns a factory:
``router.run(factory, tenant=…)`` drives it, in either colour, and may drive it again after what was
certainly rolled back, with the same ids. Inside a work of one's own, ``yield from factory()`` makes
it part of that transaction.
"""
