"""``python -m todo_api`` and ``todo-api``: the command line."""

from todo_api.commands import main

if __name__ == "__main__":
    main()
