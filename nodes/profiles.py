"""The user node's profiles and attributes (54 to 58)."""

from __future__ import annotations

from mesh.errors import AppError
from nodes.packs import Item, handles
from nodes.social import SocialNode, require_ids, require_line, require_self, require_short
from packs.codes import Code
from packs.enums import SyncCommand
from packs.ids import business_members, canonical_session, single_members
from packs.structs import SUCCESS, CommonErrorCode, UserAttrGetResp, UserAttribute, UserInfo, UserInfoGetResp
from packs.table import (
    SESSIONATTRIBUTE_SET,
    USERATTRIBUTE_GET,
    USERATTRIBUTE_SET,
    USERINFO_GET,
    USERINFO_UPDATE,
)
from store import profiles
from store.profiles import FAILED, NAMES_MAX, RENAMED, SESSION, USER, Profile

USERS_MAX = 100
"""Users asked about by one 54: their profiles fit a frame."""
PROFILE_MAX = {"name": 64, "avatar": 1_024, "mobile": 32}
"""Characters."""
ATTRIBUTE_MAX = {"attrName": 64, "attrValue": 1_024}
"""Characters."""
REMARK, REMARK_MAX = "REMARK", 128
"""The attribute that is a friend's remark."""


class ProfilesNode(SocialNode):
    """Profiles and attributes of users."""

    # ---- 54, 55

    @handles(USERINFO_GET)
    def _get_infos(self, item: Item) -> UserInfoGetResp:
        me, asked = item.origin.user, item.message.user_ids
        users = require_ids(asked, USERS_MAX)
        found = dict(zip(users, self._store.profiles.get(users), strict=True))
        near = {user for user, friend in zip(users, self._store.friends.are(me, users), strict=True) if friend} | {me}
        return UserInfoGetResp(user_infos=[_info(user, found[user], user in near) for user in asked])

    @handles(USERINFO_UPDATE)
    def _update(self, item: Item) -> CommonErrorCode:
        info: UserInfo = item.message.user_info
        user = require_self(item, info.user_id)
        self.set_profile(user, Profile(info.name, info.avatar, info.mobile, info.birthday))
        return SUCCESS

    def profiles(self, users: tuple[str, ...]) -> tuple[Profile, ...]:
        return tuple(self._store.profiles.get(require_ids(users, USERS_MAX)))

    def set_profile(self, user: str, profile: Profile) -> None:
        require_ids([user], 1)
        for name, most in PROFILE_MAX.items():
            require_line(name, getattr(profile, name), most)
        self._store.profiles.put(user, profile)

    # ---- 56, 57

    @handles(USERATTRIBUTE_SET)
    def _set(self, item: Item) -> CommonErrorCode:
        attribute: UserAttribute = item.message.attribute
        user = require_self(item, attribute.user_id)
        (other,) = require_ids([attribute.friend_id], 1)
        if attribute.attr_name == REMARK:
            require_short("attrValue", attribute.attr_value, REMARK_MAX)
        if self._set_attribute(USER, user, other, attribute.attr_name, attribute.attr_value) == RENAMED:
            self.tell([user], SyncCommand.FRIENDS, item.origin.connection)
        return SUCCESS

    @handles(USERATTRIBUTE_GET)
    def _get(self, item: Item) -> UserAttrGetResp:
        message = item.message
        user = require_self(item, message.user_id)
        (other,) = require_ids([message.friend_id], 1)
        if message.attr_name:
            require_short("attrName", message.attr_name, ATTRIBUTE_MAX["attrName"])
            name = message.attr_name
            found = {name: self._store.profiles.attribute(USER, user, other, name)}
        else:
            (found,) = self._store.profiles.attributes(USER, user, [other])
        return UserAttrGetResp(
            attributes=[
                UserAttribute(user_id=user, friend_id=other, attr_name=name, attr_value=value)
                for name, value in found.items()
            ]
        )

    # ---- 58

    @handles(SESSIONATTRIBUTE_SET)
    def _set_of_session(self, item: Item) -> CommonErrorCode:
        message = item.message
        user = require_self(item, message.user_id)
        session = canonical_session(message.session_id)
        if session is None or not _is_of(session, user):
            raise AppError(Code.PARAM, "sessionId is not one of yours")
        self._set_attribute(SESSION, user, session, message.attr_name, message.attr_value)
        return SUCCESS

    def _set_attribute(self, about: str, user: str, subject: str, name: str, value: str) -> int:
        require_short("attrName", name, ATTRIBUTE_MAX["attrName"])
        require_short("attrValue", value, ATTRIBUTE_MAX["attrValue"])
        status = self._store.profiles.set_attribute(about, user, subject, name, value)
        if status == FAILED:
            raise AppError(Code.PARAM, f"more than {NAMES_MAX} attributes of one, or {profiles.FIELDS_MAX} in all")
        return status


def _info(user: str, profile: Profile, near: bool) -> UserInfo:
    """A profile as others see it, or, when `near`, friends and the user himself."""
    mobile = profile.mobile if near else ""
    return UserInfo(
        user_id=user, name=profile.name, avatar=profile.avatar, mobile=mobile, birthday=profile.birthday
    )  # fmt: skip


def _is_of(session: str, user: str) -> bool:
    """Whether a user may keep something about a session: his own, or a group (what he keeps shows to him only)."""
    members, parties = single_members(session), business_members(session)
    if members is not None:
        return user in members
    return parties is None or user == parties[1]
