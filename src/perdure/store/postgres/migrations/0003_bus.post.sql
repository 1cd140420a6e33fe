DROP FUNCTION perdure.commit_plain_1;
DROP FUNCTION perdure.tell_1;
