"""Who may do what: users, their rules, the questions that the gates ask, the log of refusals, the users' file.

``catalog`` knows the commands and categories that rules name; ``selectors`` and ``users`` hold what rules say;
``describe`` writes them down again in Redis's canonical form; ``checks`` answers for one request; ``access`` is the
whole of it as the server sees it (``server.acl``). Everything follows acl.c of Redis 7.0.15. No sockets, no clocks;
no files: ``file`` turns text into users and back.
"""
